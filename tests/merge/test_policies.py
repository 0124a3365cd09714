"""The merge policies in config.toml."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from taskstore._evolution.decoding import Evolution, decode_steps
from taskstore._evolution.graph import Graph
from taskstore._merge.policies import Policies, parse_policies
from taskstore.errors import ConfigError
from tests.cli.programs import on_pipe
from tests.merge.repositories import line


def test_policies_are_read_by_collection_and_field() -> None:
    """Each table below `merge` has the policies of one collection's fields."""
    policies = parse_policies('[merge.plans]\nlabels = "union"\n"x-y" = "max"\n[other]\na = 1\n')
    assert {"labels": "union", "x-y": "max"} == policies.of("plans")
    assert {} == policies.of("issues")


def test_policies_under_a_new_name_of_a_collection_count() -> None:
    """A log keeps its name; a policy may be under any name since, and the newest name wins."""
    steps = decode_steps([{"collection": ["plans", "tasks"]}])
    graph = Graph.of([Evolution("plans", "r1", (), steps)])
    policies = parse_policies(
        '[merge.plans]\na = "max"\nb = "max"\n[merge.tasks]\nb = "min"\n[merge.other]\na = "min"\n'
    )
    assert {"a": "max", "b": "min"} == policies.of("plans", graph)


def test_the_merge_driver_knows_a_renamed_collection(tmp_path: Path) -> None:
    """It finds the new name in the evolutions beside the log."""
    store = tmp_path / ".taskstore"
    store.mkdir()
    (store / "config.toml").write_text('[merge.tasks]\nn = "max"\n')
    (store / "evolutions.jsonl").write_text(
        '{"id":"plans@r1","collection":"plans","revision":"r1","parents":[],'
        '"steps":[{"collection":["plans","tasks"]}],"updated_at":1}\n'
    )
    first = line("a", 1000, n=1)
    sides = {"base": first, "ours": line("a", 2000, n=5), "theirs": line("a", 3000, n=3)}
    for name, text in sides.items():
        (tmp_path / name).write_text(text)
    done = on_pipe("merge", *sides, ".taskstore/plans.jsonl", cwd=tmp_path)
    assert (0, "") == (done.status, done.stderr)
    assert 5 == json.loads((tmp_path / "ours").read_text())["n"]


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
