"""All that is printed passes one place, which escapes what could steer a terminal."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.modules import Module, imports, parse

# The place: lines and tables, the pager, bars, the streams below them.
PLACE = {
    "taskstore.cli._output",
    "taskstore.cli._paging",
    "taskstore.cli._progress",
    "taskstore.cli._streams",
}

# Modules that may know of a stream, and why.
EXCEPTIONS = {
    # It drops what a stream that cannot be written has buffered, and prints nothing.
    "taskstore.cli._errors": {"sys.stdout"},
    "taskstore.cli._completion": {"sys.stdout"},
}

WRITERS = {
    "print",
    "click.clear",
    "click.confirm",
    "click.echo",
    "click.echo_via_pager",
    "click.get_binary_stream",
    "click.get_text_stream",
    "click.progressbar",
    "click.prompt",
    "click.secho",
    "click.style",
    "os.write",
    "sys.__stderr__",
    "sys.__stdout__",
    "sys.stderr",
    "sys.stdout",
}
LOG_FILES = "taskstore._log.files"
"""The module that writes the files of a store: `os.write` there prints nothing."""


def printing(module: Module) -> list[str]:
    """What a module uses that prints, as text."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Attribute | ast.Name):
            continue
        used = ast.unparse(node)
        if used in WRITERS - EXCEPTIONS.get(module.name, set()):
            found.append(f"{module.name}:{node.lineno}: {used}")
    for item in imports(module):
        library = item.target.partition(".")[0]
        if library in ("rich", "logging") or item.target in WRITERS:
            found.append(f"{module.name}:{item.line}: {item.target}")
    return found


def test_all_that_is_printed_passes_one_place(modules: list[Module]) -> None:
    """No module but the place of all output prints, or uses a stream, click's output or rich."""
    others = [module for module in modules if module.name not in PLACE | {LOG_FILES}]
    assert [] == [use for module in others for use in printing(module)]


def test_the_place_is_there(modules: list[Module]) -> None:
    """The modules that may print exist, and those with an exception need it."""
    found = {module.name: module for module in modules}
    assert set() == PLACE - found.keys()
    for name, uses in EXCEPTIONS.items():
        assert all(use in found[name].text for use in uses)


@pytest.mark.parametrize(
    "text",
    [
        "print('x')",
        "import click\nclick.echo('x')",
        "from click import echo",
        "import click\ndef f(): click.secho('x')",
        "import sys\nsys.stdout.write('x')",
        "import sys\nout = sys.stderr",
        "from sys import stdout",
        "def f():\n    from rich.console import Console",
        "import os\nos.write(1, b'x')",
        "import click\nclick.confirm('x')",
    ],
)
def test_what_prints_is_seen(text: str) -> None:
    """The check finds each way to print."""
    source = Path("src")
    assert 1 == len(printing(parse(text, source / "taskstore/cli/list.py", source)))
