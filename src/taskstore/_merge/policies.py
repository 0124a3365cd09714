"""Which rule decides between two changes of a field, and its part of config.toml."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from taskstore._evolution.decoding import COLLECTION
from taskstore._format.config import decode_config

DEFAULT_POLICY = "newest"
"""What holds for a field that no policy is given for."""


OF_EVOLUTIONS: Mapping[str, str] = MappingProxyType({"parents": "fail", "steps": "fail"})
"""What holds for the evolutions: two versions of one cannot be mixed, so a person decides."""


@attrs.frozen
class Policies:
    """The policies of a store, by collection and field."""

    by_collection: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)

    def of(self, collection: str | None) -> Mapping[str, str]:
        """Return the policies of a collection's fields; those that are absent have the default."""
        if collection == COLLECTION:
            return OF_EVOLUTIONS
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
            to be, or there are too many.
    """
    config = decode_config(text)
    config.check("merge", path)
    return Policies(config.policies)
