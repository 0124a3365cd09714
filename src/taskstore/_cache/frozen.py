"""Plain JSON data that cannot be changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["EMPTY", "frozen"]


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("row.data is read-only: replace it whole, as in row.data = {**row.data, ...}")


class _FrozenDict(dict[str, Any]):
    """A dict that compares, prints and encodes as one, and refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: _thawed(value) for key, value in self.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (self.__deepcopy__({}),)


class _FrozenList(list[Any]):
    """A list that compares, prints and encodes as one, and refuses every change."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [_thawed(value) for value in self]

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (self.__deepcopy__({}),)


EMPTY: Mapping[str, Any] = _FrozenDict()


def frozen(value: Any) -> Any:
    """Return JSON builtins as dicts and lists that refuse every change, at every depth.

    `copy.deepcopy` of the result gives plain ones back, which can be changed.
    """
    if isinstance(value, dict):
        return _FrozenDict({key: frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return _FrozenList([frozen(item) for item in value])
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, _FrozenDict | _FrozenList):
        return value.__deepcopy__({})
    return value
