"""Programs are started in one place, which decides what they may believe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure.modules import Module, imports, parse

RUNNERS = {"taskstore._git.run", "taskstore.cli._programs"}
"""What runs git, and what runs the editor and the pager that the user's environment names."""

LIBRARIES = {"subprocess", "multiprocessing", "pty", "webbrowser", "_posixsubprocess"}
CALLS = {
    "os": ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile"),
    "asyncio": ("create_subprocess",),
    "click": ("edit", "launch", "echo_via_pager"),
}


def starts(module: Module) -> list[str]:
    """The places of a module that can start a program, as text."""
    found = [
        f"{module.name}:{item.line}: {item.target}"
        for item in imports(module)
        if item.target.partition(".")[0] in LIBRARIES or _starts(*item.target.rpartition(".")[::2])
    ]
    return found + [
        f"{module.name}:{node.lineno}: {library}.{name}"
        for node, library, name in _attributes(module.tree)
        if _starts(library, name)
    ]


def _starts(library: str, name: str) -> bool:
    return name.startswith(CALLS.get(library, ()))


def _attributes(tree: ast.Module) -> Iterator[tuple[ast.Attribute, str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node, node.value.id, node.attr


def test_one_module_starts_programs(modules: list[Module]) -> None:
    """No module but those that run git, an editor or a pager can start a program."""
    found = {module.name: places for module in modules if (places := starts(module))}
    assert RUNNERS == found.keys(), found


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "def f():\n    import subprocess",
        "import os\nos.system('git')",
        "from os import execvp",
        "import asyncio\nasyncio.create_subprocess_exec('git')",
        "import click\nclick.launch('x')",
    ],
)
def test_each_way_to_start_a_program_is_seen(text: str) -> None:
    """The check finds imports, also inside of functions, and calls."""
    source = Path("src")
    assert 1 == len(starts(parse(text, source / "taskstore/cli/a.py", source)))
