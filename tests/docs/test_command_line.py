"""Every command is documented: in its help, in the reference, and in the shapes of its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from taskstore.cli import main
from taskstore.cli._errors import Status

PAGE = "docs/reference/cli.md"
CONTEXT = click.Context(main, info_name="taskstore", **main.context_settings)
DIRECTIVE = re.compile(
    r"^\.\. click:: ([\w.]+):command\n   :prog: taskstore ([\w-]+)$", re.MULTILINE
)


def walk(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its name, those of groups too."""
    for name in group.list_commands(CONTEXT):
        command = group.get_command(CONTEXT, name)
        assert command is not None
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from walk(command, f"{prefix}{name} ")


COMMANDS = dict(walk(main))

# Parameters that name something else than elsewhere.
ELSEWHERE = {"adopt": {"ids"}, "scribe": {"commit"}}


def test_the_reference_has_every_command(repository_root: Path) -> None:
    """The page of the command line has each command once, out of its own module."""
    found = DIRECTIVE.findall((repository_root / PAGE).read_text(encoding="utf-8"))
    assert sorted(main.list_commands(CONTEXT)) == sorted(name for _, name in found)
    modules = {name: COMMANDS[name].callback.__module__ for _, name in found}
    assert {name: module for module, name in found} == modules


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "merge"])
def test_help_has_an_example(name: str) -> None:
    """The help of each command has an example that calls it, and says what it does."""
    text = COMMANDS[name].get_help(click.Context(COMMANDS[name], CONTEXT, info_name=name))
    _, _, examples = text.partition("Example")
    assert f"taskstore {name}" in examples
    assert len(text.splitlines()[2].strip()) > 20


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help(name: str) -> None:
    """Each option says what it does, and which environment variable it reads."""
    options = [param for param in COMMANDS[name].params if isinstance(param, click.Option)]
    assert [] == [option.name for option in options if not option.help]
    assert [] == [option.name for option in options if option.envvar and not option.show_envvar]


def test_the_shapes_of_json_are_documented(repository_root: Path) -> None:
    """The page of the JSON output has exactly those commands that take --json."""
    page = (repository_root / "docs/reference/json-output.md").read_text(encoding="utf-8")
    documented = re.findall(r"^`([\w-]+)`\n: ", page, re.MULTILINE)
    taking = {
        name.partition(" ")[0]
        for name, command in COMMANDS.items()
        if any("--json" in param.opts for param in command.params)
    }
    assert sorted(taking) == sorted(documented)


def test_the_exit_codes_are_documented(repository_root: Path) -> None:
    """The table of exit codes has exactly those that there are."""
    page = (repository_root / PAGE).read_text(encoding="utf-8")
    _, _, section = page.partition("## Exit codes")
    codes = re.findall(r"^\| (\d+) \|", section.partition("\n## ")[0], re.MULTILINE)
    assert [int(status) for status in Status] == [int(code) for code in codes]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_a_short_option(name: str) -> None:
    """`-h` prints the help of each command."""
    shown = [CliRunner().invoke(main, [*name.split(), option]) for option in ("-h", "--help")]
    assert [0, 0] == [each.exit_code for each in shown]
    assert shown[0].output == shown[1].output


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_store_or_git_knows_is_completed(name: str) -> None:
    """Tab completes collections, ids, fields and revisions in each command that takes them."""
    known = {"collection", "collections", "ids", "id", "fields", "filters", "sorts", "columns"}
    known |= {"at", "commit", "commits", "branch"}
    assert [] == [
        param.name
        for param in COMMANDS[name].params
        if param.name in known - ELSEWHERE.get(name, set()) and param._custom_shell_complete is None
    ]


@pytest.mark.parametrize("name", ["list", "search", "sql", "history", "schema", "diff"])
def test_tables_have_the_same_formats(name: str) -> None:
    """Commands that print tables take the same values of `--format`; `diff` takes two more."""
    [option] = [param for param in COMMANDS[name].params if "--format" in param.opts]
    more = ["markdown", "html"] if name == "diff" else []
    assert isinstance(option.type, click.Choice)
    assert ["table", "csv", "tsv", "json", "nl", *more] == list(option.type.choices)
    assert "-f" in option.opts
