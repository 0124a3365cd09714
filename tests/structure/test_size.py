"""Modules and functions stay small enough to be read at one go."""

from __future__ import annotations

from tests.structure.modules import Module, code_length, functions

MODULE_LINES = 500
FUNCTION_LINES = 50
USUAL_FUNCTION_LINES = 30


def test_modules_are_short(modules: list[Module]) -> None:
    """No module has 500 lines or more."""
    long = {module.name: len(module.text.splitlines()) for module in modules}
    assert {} == {name: lines for name, lines in long.items() if lines >= MODULE_LINES}


def test_functions_are_short(modules: list[Module]) -> None:
    """No function has 50 lines or more, its docstring not counted."""
    long = {
        f"{module.name}.{function.name}": code_length(function)
        for module in modules
        for function in functions(module)
        if code_length(function) >= FUNCTION_LINES
    }
    assert {} == long


def test_long_functions_are_rare(modules: list[Module]) -> None:
    """At most one function in fifty is longer than 30 lines."""
    lengths = [code_length(function) for module in modules for function in functions(module)]
    longer = [length for length in lengths if length > USUAL_FUNCTION_LINES]
    assert len(longer) <= len(lengths) / 50
