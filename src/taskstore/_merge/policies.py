"""Which rule settles two changes of a field, and the part of config.toml that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from taskstore._format.names import check_collection_name
from taskstore.errors import ConfigError, InvalidNameError

__all__ = ["DEFAULT_POLICY", "POLICIES", "Policies", "parse_policies"]

POLICIES = ("newest", "union", "max", "min", "text", "fail")
"""The names of the policies."""

DEFAULT_POLICY = "newest"
"""What holds for a field that no policy is given for."""

_OWN = ("id", "updated_at", "deleted")


@attrs.frozen
class Policies:
    """The policies of a store, by collection and field."""

    by_collection: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)

    def of(self, collection: str | None) -> Mapping[str, str]:
        """Return the policies of a collection's fields; those that are absent have the default."""
        return self.by_collection.get(collection or "", {})


def parse_policies(text: str, path: str = "config.toml") -> Policies:
    """Read the merge policies out of the text of a config.toml.

    Each table `[merge.<collection>]` has the fields of that collection, each with the name of its
    policy. Tables other than `merge` are somebody else's and not looked at.

    Args:
        text: The settings.
        path: Where they come from, for messages.

    Raises:
        ConfigError: They are no TOML, or a policy, collection or field cannot be what it is said
            to be.
    """
    import tomllib  # most stores have no settings

    try:
        settings = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(path, reason=f"not TOML: {error}") from None
    tables = _table(settings.get("merge", {}), "merge", path)
    return Policies({name: _collection(name, tables[name], path) for name in tables})


def _collection(name: str, value: object, path: str) -> dict[str, str]:
    try:
        check_collection_name(name)
    except InvalidNameError as error:
        raise ConfigError(path, reason=f"[merge.{name}]: {error}") from None
    fields = _table(value, f"merge.{name}", path)
    for field, policy in fields.items():
        place = f"[merge.{name}] {field}"
        if field in _OWN:
            raise ConfigError(path, reason=f"{place}: this field is merged by the format's rules")
        if policy not in POLICIES:
            known = ", ".join(POLICIES)
            reason = f"{place}: unknown policy {policy!r}: choose one of {known}"
            raise ConfigError(path, reason=reason)
    return fields


def _table(value: object, name: str, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(path, reason=f"{name} must be a table, such as [merge.plans]")
    return value
