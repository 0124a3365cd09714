"""The base of all errors."""

from __future__ import annotations

from typing import Any

from taskstore._text import visible


def _rebuild(cls: type[TaskstoreError], message: str, facts: dict[str, Any]) -> TaskstoreError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(facts)
    return error


class TaskstoreError(Exception):
    """The base of every error that this library raises on purpose.

    The keyword arguments of each subclass are its attributes, with the same names and values. The
    message shows control characters as escapes, because it may go to a terminal.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(visible(message))
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses of OSError and LookupError have other signatures, so the default
        # reconstruction from `args` would call __init__ wrongly.
        return _rebuild, (type(self), str(self), dict(self.__dict__))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def shown(value: object) -> str:
    """Return a value for a message: its `repr`, cut to 80 characters."""
    try:
        text = repr(value)
    except ValueError:
        # Python prints no integer of thousands of digits.
        text = f"<{type(value).__name__} of many digits>"
    return text if len(text) <= 80 else f"{text[:77]}..."
