"""The base of all errors."""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[TaskstoreError], message: str, facts: dict[str, Any]) -> TaskstoreError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(facts)
    return error


class TaskstoreError(Exception):
    """The base of every error that this library raises on purpose.

    The keyword arguments of each subclass are its attributes, under the same names.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError and LookupError relatives have signatures of their own, so the default
        # reconstruction from `args` would call __init__ wrongly.
        return _rebuild, (type(self), str(self), dict(self.__dict__))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
