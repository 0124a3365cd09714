"""The text of a config.toml, decoded into typed values within stated limits.

Everybody who can push to the repository can write this file, so it is untrusted input. A mistake in
one table does not affect the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import attrs

from taskstore._format.names import check_collection_name, check_field_name
from taskstore.errors import ConfigError, InvalidNameError
from taskstore.errors._base import shown

MAX_CONFIG_BYTES = 1024 * 1024
"""The greatest length of the file, in bytes."""

MAX_NESTING = 32
"""How deep values may nest, and how many parts a dotted key may have."""

MAX_COLLECTIONS = 1000
"""How many collections `[indexes]`, and `[merge]`, may name."""

MAX_INDEXES = 64
"""How many fields of one collection may be indexed."""

MAX_POLICIES = 1000
"""How many fields of one collection may have a merge policy."""

MAX_MODULES = 64
"""How many modules `types` may name."""

POLICIES = ("newest", "union", "max", "min", "text", "fail")
"""How a merge may settle two changes of one field."""

_TABLES = ("indexes", "merge", "types")
_OWN = ("id", "updated_at", "deleted")
_EXAMPLE = 'plans = ["status", "priority"]'
_MAX_MODULE_NAME = 256

# The parser takes quadratic time for keys of many parts. A text that has so many in a string is
# refused as well.
_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_NESTING},}}")


@attrs.frozen
class Config:
    """The content of a config.toml.

    Attributes:
        indexes: The fields to index, by collection.
        policies: The merge policies, by collection and field.
        modules: The modules that declare the record types.
        faults: Why a table cannot be used, by its name; the key "" is for the whole file. Tables
            that cannot be used are empty.
    """

    indexes: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    policies: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    modules: tuple[str, ...] = ()
    faults: Mapping[str, str] = attrs.field(factory=dict)

    def check(self, table: str, path: Any) -> None:
        """Check that a table can be used.

        Args:
            table: "indexes", "merge" or "types".
            path: The file, for the message.

        Raises:
            ConfigError: It cannot.
        """
        reason = self.faults.get("") or self.faults.get(table)
        if reason is not None:
            raise ConfigError(path, reason=reason)


def decode_config(text: str) -> Config:
    """Return the content of a config.toml. Other tables are ignored."""
    # Stores check this often, and most have no settings.
    return _decoded(text) if text and not text.isspace() else Config()


@lru_cache(maxsize=4)
def _decoded(text: str) -> Config:
    try:
        tables = parse_toml(text)
    except ValueError as error:
        return Config(faults={"": str(error)})
    decoders: Mapping[str, Callable[[Any], Any]] = {
        "indexes": _indexes,
        "merge": _policies,
        "types": _modules,
    }
    found: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name in tables.keys() & decoders:
        try:
            found[name] = decoders[name](tables[name])
        except ValueError as error:
            faults[name] = str(error)
    return Config(
        found.get("indexes", {}),
        found.get("merge", {}),
        found.get("types", ()),
        {name: faults[name] for name in _TABLES if name in faults},
    )


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a TOML text.

    Raises:
        ValueError: It is not TOML, or exceeds a limit. The message is only the reason.
    """
    import tomllib  # most stores have no settings

    if len(text) > MAX_CONFIG_BYTES or len(text.encode()) > MAX_CONFIG_BYTES:
        raise ValueError("longer than 1 MiB")
    if _LONG_KEY.search(text):
        raise ValueError(f"a dotted key with more than {MAX_NESTING} parts")
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_NESTING} levels") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    except ValueError:
        raise ValueError("an integer with thousands of digits") from None
    _check_nesting(found)
    return found


def _check_nesting(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_NESTING):
        inner: list[Any] = []
        for item in level:
            values = item.values() if isinstance(item, dict) else item
            inner += [each for each in values if isinstance(each, dict | list)]
        if not inner:
            return
        level = inner
    raise ValueError(f"nested deeper than {MAX_NESTING} levels")


def _indexes(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError(f"indexes must be a table, as in [indexes] {_EXAMPLE}")
    _check_count(value, MAX_COLLECTIONS, "[indexes]", "collections")
    return {name: _fields(name, fields) for name, fields in value.items()}


def _fields(name: str, value: Any) -> tuple[str, ...]:
    place = f"[indexes] {_named(name)}"
    _check_collection(name, place)
    if not isinstance(value, list):
        raise ValueError(f"{place}: must be a list of field names, as in {_EXAMPLE}")
    _check_count(value, MAX_INDEXES, place, "fields")
    try:
        return tuple(dict.fromkeys(check_field_name(field) for field in value))
    except InvalidNameError as error:
        raise ValueError(f"{place}: {error}") from None


def _policies(value: Any) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict):
        raise ValueError("merge must be a table, such as [merge.plans]")
    _check_count(value, MAX_COLLECTIONS, "[merge]", "collections")
    return {name: _policies_of(name, fields) for name, fields in value.items()}


def _policies_of(name: str, value: Any) -> dict[str, str]:
    place = f"[merge.{_named(name)}]"
    _check_collection(name, place)
    if not isinstance(value, dict):
        raise ValueError(f"merge.{name} must be a table, such as [merge.plans]")
    _check_count(value, MAX_POLICIES, place, "fields")
    for field, policy in value.items():
        if field in _OWN:
            raise ValueError(f"{place} {field}: this field is merged by the format's rules")
        if policy not in POLICIES:
            reason = f"unknown policy {shown(policy)}: choose one of {', '.join(POLICIES)}"
            raise ValueError(f"{place} {_named(field)}: {reason}")
    return dict(value)


def _modules(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError('types must be a list of modules, such as types = ["shop.models"]')
    _check_count(value, MAX_MODULES, "types", "modules")
    try:
        return tuple(dict.fromkeys(map(check_module_name, value)))
    except ValueError as error:
        raise ValueError(f"types: {error}") from None


def check_module_name(name: str) -> str:
    """Return `name` if it can be that of a module with record types.

    Raises:
        ValueError: It cannot; the message says why.
    """
    parts = name.split(".")
    if len(name) > _MAX_MODULE_NAME or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{shown(name)} is not the name of a module")
    if parts[-1] == "__main__":
        raise ValueError(
            f"{shown(name)} is a program: name a module that does nothing when it is imported"
        )
    return name


def _check_collection(name: str, place: str) -> None:
    try:
        check_collection_name(name)
    except InvalidNameError as error:
        raise ValueError(f"{place}: {error}") from None


def _check_count(value: Mapping[str, Any] | list[Any], limit: int, place: str, what: str) -> None:
    if len(value) > limit:
        raise ValueError(f"{place}: {len(value)} {what}, at most {limit} are allowed")


def _named(name: str) -> str:
    """Return a name for a message: as it is, if it is short and plain."""
    return name if len(name) <= 64 and name.isprintable() else repr(name[:64])
