"""Files of a store are opened in one place, which follows no link and waits for no pipe."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.modules import Module, parse

PLACE = "taskstore._log.files"

# Modules that open other files, and which.
EXCEPTIONS = {
    "taskstore._doctor.log_checks": "/proc",
    "taskstore._doctor.types": "what installed packages say",
    "taskstore._git.attributes": "a temporary folder",
    "taskstore._git.objects": "a temporary folder",
    "taskstore.cli._output": "a descriptor that is open",
    "taskstore.cli._programs": "a temporary file for an editor",
    "taskstore.cli._streams": "the null device",
    "taskstore.cli.diff": "what git names as the argument of a textconv",
    "taskstore.cli.export": "what the user names as output",
    "taskstore.cli.import_": "what the user names as input",
    "taskstore.cli.merge": "what git names as arguments of a merge driver",
}

FUNCTIONS = {"open", "io.open", "os.open", "os.fdopen"}
METHODS = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "touch"}
OTHERS = {
    "_UpgradedStore.open",
    "cls.open",
    "self._cache.open",
    "self._on_sqlite.open",
    "self.open",
    "target.open",
    "Store.open",
}
"""Methods of that name that open no file themselves."""


def openings(module: Module) -> list[str]:
    """The places of a module that open a file by its name, as text."""
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        is_method = isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
        if name in FUNCTIONS or (is_method and name not in OTHERS):
            found.append(f"{module.name}:{node.lineno}: {name}")
    return found


def test_one_module_opens_the_files_of_a_store(modules: list[Module]) -> None:
    """No module opens a file by its name but the one for stores, and those that open others."""
    others = [module for module in modules if module.name not in {PLACE, *EXCEPTIONS}]
    assert [] == [opening for module in others for opening in openings(module)]


@pytest.mark.parametrize(
    "text",
    [
        "open(path)",
        "os.open(path, os.O_RDONLY)",
        "layout.config_path.read_text()",
        "layout.log_path('a').open('ab')",
        "(folder / 'a').write_bytes(b'')",
    ],
)
def test_an_opening_is_seen(text: str) -> None:
    """The check finds each way to open a file."""
    source = Path("src")
    assert 1 == len(openings(parse(text, source / "taskstore" / "_log" / "x.py", source)))
