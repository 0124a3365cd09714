"""The lines of evolutions.jsonl: decoded strictly, within stated limits, and written.

Everybody who can push to the repository can write this file, so it is untrusted input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import msgspec

from taskstore._evolution.steps import (
    Convert,
    Default,
    Drop,
    Join,
    Map,
    Rename,
    RenameCollection,
    Split,
    Step,
)
from taskstore._evolution.values import CONVERTERS
from taskstore._format.lines import REVISION_KEY, encode_value
from taskstore._format.names import EVOLUTIONS, check_collection_name
from taskstore.errors import InvalidNameError
from taskstore.errors._base import shown

T = TypeVar("T")

COLLECTION = EVOLUTIONS
"""The collection that the evolutions are in."""

MAX_BYTES = 1024 * 1024
"""The greatest length of all evolutions of a store together, in bytes."""

MAX_EVOLUTIONS = 1000
"""How many evolutions a collection may have."""

MAX_STEPS = 100
"""How many steps an evolution may have."""

MAX_NAMES = 200
"""How many fields, or values, a step may name; also how many parents an evolution may have."""

_MAX_NAME = 256
_MAX_SEPARATOR = 64
_REVISION = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_OWN = {"id", "updated_at", "deleted", REVISION_KEY}
_KEYS = {"id", "collection", "revision", "parents", "steps"}
_IGNORED = {"updated_at"}

_decode = msgspec.json.Decoder().decode


@attrs.frozen
class Evolution:
    """A change of the shape of a collection's records.

    Attributes:
        collection: The collection.
        revision: The revision that it belongs to.
        parents: The nearest revisions before it that changed the same collection.
        steps: What it does to a record, in order.
    """

    collection: str
    revision: str
    parents: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def id(self) -> str:
        """The id of its record in evolutions.jsonl."""
        return f"{self.collection}@{self.revision}"


def check_revision(value: Any) -> str:
    """Return a value if it can name a revision.

    Raises:
        ValueError: It cannot. The message says why.
    """
    if isinstance(value, str) and _REVISION.fullmatch(value):
        return value
    raise ValueError(
        f"{shown(value)} is not a revision: use 1 to 128 of ASCII letters, digits and '_.:-'"
    )


def encode_evolution(evolution: Evolution) -> bytes:
    """Return the line, without newline, that states an evolution.

    It has no time, so two clones that run the same upgrade write the same bytes.
    """
    return encode_value(
        {
            "id": evolution.id,
            "collection": evolution.collection,
            "revision": evolution.revision,
            "parents": sorted(evolution.parents),
            "steps": encode_steps(evolution.steps),
        }
    )


def decode_evolution(raw: bytes | str) -> Evolution:
    """Return the evolution that a record line states.

    Raises:
        ValueError: It is not an evolution, or exceeds a limit. The message is only the reason.
    """
    if len(raw) > MAX_BYTES:
        raise ValueError("an evolution longer than 1 MiB")
    found = _object(_decode(raw), "an evolution")
    strange = found.keys() - _KEYS - _IGNORED
    if strange or not found.keys() >= _KEYS:
        raise ValueError(f"an evolution has the keys {', '.join(sorted(_KEYS))}")
    collection = _name(found["collection"])
    parents = [check_revision(parent) for parent in _list(found["parents"], "parents", MAX_NAMES)]
    evolution = Evolution(
        collection, check_revision(found["revision"]), tuple(parents), decode_steps(found["steps"])
    )
    if found["id"] != evolution.id:
        raise ValueError(f"its id must be {evolution.id!r}")
    return evolution


def encode_steps(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    """Return steps as JSON builtins."""
    return [{step.kind: _ENCODERS[step.kind](step)} for step in steps]


def decode_steps(value: Any) -> tuple[Step, ...]:
    """Return the steps that JSON builtins state.

    Raises:
        ValueError: They are not steps, or exceed a limit. The message is only the reason.
    """
    found: list[Step] = []
    for item in _list(value, "steps", MAX_STEPS):
        step = _object(item, "a step")
        if len(step) != 1 or next(iter(step)) not in _DECODERS:
            raise ValueError(f"a step has one key of {', '.join(sorted(_DECODERS))}")
        [(kind, content)] = step.items()
        found.append(_DECODERS[kind](content))
    return tuple(found)


def _collection(value: Any) -> Step:
    names = _list(value, "collection", MAX_NAMES)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError("collection: the name before and another, new one are expected")
    return RenameCollection(_name(names[0]), _name(names[1]))


def _rename(value: Any) -> Step:
    names = _object(value, "rename")
    new = [_field(name) for name in names.values()]
    if len(set(new)) != len(new):
        raise ValueError("rename: two fields would have one name")
    return Rename({_field(old): name for old, name in zip(names, new, strict=True)})


def _default(value: Any) -> Step:
    values = _object(value, "default")
    return Default({_field(name): _value(item) for name, item in values.items()})


def _convert(value: Any) -> Step:
    name, types = _single(value, "convert")
    was, to = types if isinstance(types, list) and len(types) == 2 else (None, types)
    for type_ in (to, was):
        if type_ is not None and (not isinstance(type_, str) or type_ not in CONVERTERS):
            raise ValueError(f"convert: a type is one of {', '.join(sorted(CONVERTERS))}")
    if to is None:
        raise ValueError("convert: it needs a type")
    return Convert(name, to, was)


def _map(value: Any) -> Step:
    name, pairs = _single(value, "map")
    table: dict[bytes, bytes] = {}
    for pair in _list(pairs, "map", MAX_NAMES):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("map: a list of pairs is expected, each with an old and a new value")
        if isinstance(pair[0], list | dict):
            raise ValueError("map: an old value must be a text, a number, true, false or null")
        table[_value(pair[0])] = _value(pair[1])
    return Map(name, table)


def _split(value: Any) -> Step:
    name, found = _single(value, "split")
    into, separator = _parts(found, "split", "into")
    if name in into:
        raise ValueError("split: a field cannot be a part of itself")
    return Split(name, into, separator)


def _join(value: Any) -> Step:
    into, found = _single(value, "join")
    names, separator = _parts(found, "join", "fields")
    if into in names:
        raise ValueError("join: a field cannot be a part of itself")
    return Join(names, into, separator)


def _parts(value: Any, kind: str, key: str) -> tuple[tuple[str, ...], str]:
    found = _object(value, kind)
    if found.keys() != {key, "separator"}:
        raise ValueError(f"{kind}: the keys {key!r} and 'separator' are expected")
    names = tuple(_field(name) for name in _list(found[key], kind, MAX_NAMES))
    separator = found["separator"]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"{kind}: at least two different parts are needed")
    if not isinstance(separator, str) or not 0 < len(separator) <= _MAX_SEPARATOR:
        raise ValueError(f"{kind}: the separator must be a text of 1 to {_MAX_SEPARATOR}")
    return names, separator


def _drop(value: Any) -> Step:
    return Drop(tuple(_field(name) for name in _list(value, "drop", MAX_NAMES)))


_DECODERS: Mapping[str, Callable[[Any], Step]] = {
    "collection": _collection,
    "rename": _rename,
    "drop": _drop,
    "default": _default,
    "convert": _convert,
    "map": _map,
    "split": _split,
    "join": _join,
}

_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "collection": lambda step: [step.was, step.to],
    "rename": lambda step: dict(step.names),
    "drop": lambda step: list(step.names),
    "default": lambda step: {name: _decode(value) for name, value in step.values.items()},
    "convert": lambda step: {step.name: [step.was, step.to] if step.was else step.to},
    "map": lambda step: {step.name: [[_decode(a), _decode(b)] for a, b in step.table.items()]},
    "split": lambda step: {step.name: {"into": list(step.into), "separator": step.separator}},
    "join": lambda step: {step.into: {"fields": list(step.names), "separator": step.separator}},
}


def _single(value: Any, kind: str) -> tuple[str, Any]:
    found = _object(value, kind)
    if len(found) != 1:
        raise ValueError(f"{kind}: one field is expected in each step")
    [(name, content)] = found.items()
    return _field(name), content


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: a JSON object is expected")
    if len(value) > MAX_NAMES:
        raise ValueError(f"{what}: {len(value)} names, at most {MAX_NAMES} are allowed")
    return value


def _list(value: Any, what: str, limit: int) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what}: a list is expected")
    if len(value) > limit:
        raise ValueError(f"{what}: {len(value)} items, at most {limit} are allowed")
    return value


def _name(name: Any) -> str:
    try:
        found = check_collection_name(name)
    except InvalidNameError as error:
        raise ValueError(str(error)) from None
    if found == COLLECTION:
        raise ValueError("evolutions themselves cannot evolve")
    return found


def _field(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
        raise ValueError(f"{shown(name)} is not a field: use a text of 1 to {_MAX_NAME} characters")
    if name in _OWN:
        raise ValueError(f"the field {name!r} belongs to the format and cannot evolve")
    return name


def _value(value: Any) -> bytes:
    return encode_value(value)
