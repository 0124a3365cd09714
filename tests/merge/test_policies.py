"""The merge policies in config.toml."""

from __future__ import annotations

import pickle

import pytest

from taskstore._merge.policies import Policies, parse_policies
from taskstore.errors import ConfigError


def test_policies_are_read_by_collection_and_field() -> None:
    """Each table below `merge` has the policies of one collection's fields."""
    policies = parse_policies('[merge.plans]\nlabels = "union"\n"x-y" = "max"\n[other]\na = 1\n')
    assert {"labels": "union", "x-y": "max"} == policies.of("plans")
    assert {} == policies.of("issues")
    assert {} == policies.of(None)


def test_no_settings_are_no_policies() -> None:
    """An empty file, and one without merge settings, give every field the default."""
    assert Policies() == parse_policies("") == parse_policies("[other]\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[merge", "not TOML"),
        ("merge = 1", "merge must be a table"),
        ('[merge]\nplans = "max"', "merge.plans must be a table"),
        ('[merge.plans]\na = "best"', "[merge.plans] a: unknown policy 'best': choose one of"),
        ("[merge.plans]\na = 1", "[merge.plans] a: unknown policy 1"),
        ("[merge.plans.a]\nb = 1", "[merge.plans] a: unknown policy {'b': 1}"),
        ('[merge.plans]\nid = "max"', "[merge.plans] id: this field is merged by the format's"),
        ('[merge."a/b"]\nx = "max"', "invalid collection name 'a/b'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, reason: str) -> None:
    """What is no policy is refused with the file, the place and the reason."""
    with pytest.raises(ConfigError) as caught:
        parse_policies(text, "somewhere/config.toml")
    assert str(caught.value).startswith("somewhere/config.toml: ")
    assert reason in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (caught.value.path, caught.value.reason) == (copy.path, copy.reason)
