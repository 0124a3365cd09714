"""What the source says of itself: public names, docstrings, comments."""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
from pathlib import Path

import pytest

from tests.structure.modules import Module, functions, modules_under

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def public_names(module: Module) -> list[str] | None:
    """The literal `__all__` of a module, None where it has none."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and "__all__" in map(ast.unparse, node.targets):
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def order(name: str) -> tuple[int, str]:
    """The place of a name in a sorted `__all__`: constants, classes, functions."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


def comments(text: str) -> list[tuple[int, str]]:
    """The comments of a source text with their line numbers."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def test_public_modules_list_their_names_sorted(modules: list[Module]) -> None:
    """Each public module has an `__all__`, sorted and without repeats; no other module has one."""
    for module in modules:
        names = public_names(module)
        parts = module.name.split(".")
        if parts[1:2] in (["cli"], ["__main__"]) or any(part.startswith("_") for part in parts):
            assert names is None or module.path.name == "__init__.py", f"{module.name} has __all__"
        else:
            assert names is not None, f"{module.name} has no __all__"
            assert sorted(set(names), key=order) == names, f"{module.name}.__all__"


SECTION = re.compile(r"^( *)(?:Args|Attributes|Raises|Warns):\n((?:\1 +.*\n|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^\*{0,2}\w+(?:, \*{0,2}\w+)*: [a-z](?!\w*[_(.])")


def entries(docstring: str) -> list[str]:
    """The entries of the sections of a docstring: a name, a colon, and a text."""
    found = []
    for match in SECTION.finditer(docstring + "\n"):
        lines = textwrap.dedent(match[2]).splitlines()
        found += [line for line in lines if line[:1].strip()]
    return found


def test_entries_of_docstrings_begin_with_a_capital(modules: list[Module]) -> None:
    """What a docstring says of an argument, attribute or error begins as a sentence does."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        ast.get_docstring(node) or ""
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    ]
    found = [entry for text in docstrings for entry in entries(text)]
    assert 500 < len(found)
    assert [] == [entry for entry in found if ENTRY.match(entry)]


def test_every_test_states_its_claim(repository_root: Path) -> None:
    """Each test function has a docstring that is a sentence."""
    without = [
        f"{module.path.name}:{function.lineno} {function.name}"
        for module in modules_under(repository_root / "tests")
        for function in functions(module)
        if function.name.startswith("test_")
        and not (ast.get_docstring(function) or "").rstrip().endswith((".", "!", "?"))
    ]
    assert [] == without


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "migrations", "docs"])
def test_no_comment_puts_work_off(repository_root: Path, folder: str) -> None:
    """No comment marks unfinished work: what is open belongs in a tracker."""
    marked = [
        f"{path.relative_to(repository_root)}:{line} {comment}"
        for path in sorted((repository_root / folder).rglob("*.py"))
        for line, comment in comments(path.read_text(encoding="utf-8"))
        if UNFINISHED.search(comment)
    ]
    assert [] == marked
