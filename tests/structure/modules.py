"""Parsed source files, and what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen
class Module:
    """A source file.

    Attributes:
        name: The dotted name; that of a package for its `__init__.py`.
        path: Where it lies.
        text: Its source.
        tree: Its syntax tree.
    """

    name: str
    path: Path
    text: str = attrs.field(repr=False)
    tree: ast.Module = attrs.field(repr=False)

    @property
    def layer(self) -> str:
        """The part of the package that the module belongs to; "" for the package root."""
        return self.name.partition(".")[2].partition(".")[0]


@attrs.frozen
class Import:
    """One imported name: `target` is the module, or the module and the name, that is meant."""

    target: str
    line: int


def modules_under(source: Path) -> list[Module]:
    """The modules of all packages below a folder, in the order of their paths."""
    return [
        parse(path.read_text(encoding="utf-8"), path, source)
        for path in sorted(source.rglob("*.py"))
    ]


def parse(text: str, path: Path, source: Path) -> Module:
    """A module from its text, named by its place below `source`."""
    parts = path.relative_to(source).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    return Module(name, path, text, ast.parse(text, str(path)))


def imports(module: Module) -> Iterator[Import]:
    """What a module imports, anywhere in it.

    `from a import b` counts as `a.b`, for only the file system tells a module `b` from a name `b`.
    Relative imports, which the linter refuses, are not resolved.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", node.lineno)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its decorators and docstring."""
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length
