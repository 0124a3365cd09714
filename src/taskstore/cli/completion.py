"""`taskstore completion`: completion with Tab."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from taskstore.cli import COMPLETION
from taskstore.cli._output import write


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, collections, ids and fields.

    \b
    Examples:
      eval "$(taskstore completion bash)"      # in ~/.bashrc
      eval "$(taskstore completion zsh)"       # in ~/.zshrc
      taskstore completion fish > ~/.config/fish/completions/taskstore.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    script = made(ctx.find_root().command, {}, "taskstore", COMPLETION).source()
    for line in script.removesuffix("\n").split("\n"):
        write(line)
