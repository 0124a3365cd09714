"""The rules that decide between two changes of a field, and their part of config.toml."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from taskstore._evolution.decoding import COLLECTION
from taskstore._evolution.graph import Graph
from taskstore._evolution.names import names_given
from taskstore._format.config import decode_config

DEFAULT_POLICY = "newest"
"""The policy of a field that has none."""


OF_EVOLUTIONS: Mapping[str, str] = MappingProxyType({"parents": "fail", "steps": "fail"})
"""The policy of evolutions: two versions of one cannot be mixed, so a person decides."""


@attrs.frozen
class Policies:
    """The policies of a store, by collection and field."""

    by_collection: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)

    def of(self, collection: str, graph: Graph | None = None) -> Mapping[str, str]:
        """Return the policies of a collection's fields; those that are absent have the default.

        Args:
            collection: The name of its log.
            graph: Its evolutions. The settings may have policies under a name that they give it;
                those under the newest name win.
        """
        if collection == COLLECTION:
            return OF_EVOLUTIONS
        names = [collection, *(name for _, name in names_given(graph))]
        return {
            field: policy
            for name in dict.fromkeys(names)
            for field, policy in self.by_collection.get(name, {}).items()
        }


def parse_policies(text: str, path: str = "config.toml") -> Policies:
    """Read the merge policies from the text of a config.toml.

    Each table `[merge.<collection>]` has the fields of that collection, each with the name of its
    policy. Other tables are ignored.

    Args:
        text: The settings.
        path: Where they come from, for messages.

    Raises:
        ConfigError: It is not TOML, a policy, collection or field is not valid, or there are too
            many.
    """
    config = decode_config(text)
    config.check("merge", path)
    return Policies(config.policies)
