"""The text of a config.toml, decoded into typed values."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.config import (
    MAX_COLLECTIONS,
    MAX_CONFIG_BYTES,
    MAX_INDEXES,
    MAX_MODULES,
    MAX_NESTING,
    MAX_POLICIES,
    Config,
    decode_config,
)
from taskstore.errors import ConfigError

GOOD = """
types = ["shop.models"]
other = { deep = [[1, 2.5], [true]] }
[indexes]
plans = ["status", "priority", "status"]
[merge.plans]
labels = "union"
"x-rank" = "min"
"""


def listed(count: int) -> str:
    return "[" + ",".join(f'"f{n}"' for n in range(count)) + "]"


def tables(count: int, line: str) -> str:
    return "".join(f"c{n} = {line}\n" for n in range(count))


def policies(count: int) -> str:
    return "[merge.plans]\n" + "".join(f'f{n} = "max"\n' for n in range(count))


def test_what_is_ours_is_decoded() -> None:
    """Each table of ours becomes a typed value; other tables are not looked at."""
    found = decode_config(GOOD)
    assert {} == found.faults
    assert {"plans": ("status", "priority")} == found.indexes
    assert {"plans": {"labels": "union", "x-rank": "min"}} == found.policies
    assert ("shop.models",) == found.modules


@pytest.mark.parametrize("text", ["", " \n", "[other]\n"])
def test_nothing_of_ours_is_nothing(text: str) -> None:
    """Settings that say nothing to us are no fault."""
    assert Config() == decode_config(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[merge", "not TOML: "),
        ("x = " + "1" * 5000, "thousands of digits"),
        ("d = 2024-02-31", "not TOML: Invalid date"),
        ("a = " + "[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1), "nested deeper than 32"),
        ("a = " + "[" * 100_000, "nested deeper than 32"),
        ("a = " + "{a=" * 100_000, "nested deeper than 32"),
        (".".join("a" * 400_000) + " = 1", "more than 32 parts"),
        ("[" + " . ".join(['"a"'] * 100_000) + "]", "more than 32 parts"),
        ("#" * (MAX_CONFIG_BYTES + 1), "longer than 1 MiB"),
        ("#" + "é" * (MAX_CONFIG_BYTES // 2), "longer than 1 MiB"),
    ],
    ids=lambda value: value[:20],
)
def test_a_file_that_cannot_be_used_has_one_fault(text: str, reason: str) -> None:
    """What is no TOML, or exceeds a limit, says nothing, and the reason is short."""
    found = decode_config(text)
    assert [""] == list(found.faults)
    assert reason in found.faults[""]
    assert len(found.faults[""]) < 200
    assert Config(faults=found.faults) == found


@pytest.mark.parametrize(
    ("table", "text", "reason"),
    [
        ("indexes", "indexes = 1", "must be a table"),
        ("indexes", "[[indexes]]", "must be a table"),
        ("indexes", "[indexes]\nplans = 'status'", "must be a list of field names"),
        ("indexes", "[indexes]\nplans = [0x" + "f" * 9_000 + "]", "must be a string, not int"),
        ("indexes", "[indexes]\nplans = [['status']]", "must be a string, not list"),
        ("indexes", "[indexes]\nplans = ['a b']", "invalid field name 'a b'"),
        ("indexes", "[indexes]\n'../x' = []", "invalid collection name '../x'"),
        ("indexes", f"[indexes]\nplans = {listed(MAX_INDEXES + 1)}", "65 fields, at most 64"),
        ("indexes", "[indexes]\n" + tables(MAX_COLLECTIONS + 1, "[]"), "1001 collections, at most"),
        ("merge", "merge = []", "merge must be a table"),
        ("merge", "[merge]\nplans = 1", "merge.plans must be a table"),
        ("merge", "[merge.plans]\na = 0x" + "f" * 9_000, "unknown policy <int of many digits>"),
        ("merge", "[merge.plans]\na = ['max']", "unknown policy ['max']"),
        ("merge", "[merge.plans]\nupdated_at = 'max'", "by the format's rules"),
        ("merge", f"[merge.plans]\n{'x' * 9_000} = 1", "unknown policy 1"),
        ("merge", policies(MAX_POLICIES + 1), "1001 fields, at most 1000"),
        ("merge", "[merge]\n" + tables(MAX_COLLECTIONS + 1, "{}"), "1001 collections, at most"),
        ("types", "types = 'shop'", "must be a list of modules"),
        ("types", "types = [{}]", "must be a list of modules"),
        ("types", "types = ['a b']", "is not the name of a module"),
        ("types", "types = ['.x']", "is not the name of a module"),
        ("types", "types = ['']", "is not the name of a module"),
        ("types", "types = ['test.__main__']", "is a program"),
        ("types", f"types = {listed(MAX_MODULES + 1)}", "65 modules, at most 64"),
    ],
    ids=lambda value: value[:30],
)
def test_a_fault_is_that_of_its_table(table: str, text: str, reason: str) -> None:
    """A table that cannot be used says nothing, and leaves the others as they are."""
    others = {
        "indexes": "\n[indexes]\nother = ['a']\n",
        "merge": "\n[merge.other]\na = 'max'\n",
        "types": "types = ['other']\n",
    }
    del others[table]
    found = decode_config(others.pop("types", "") + text + "".join(others.values()))
    assert [table] == list(found.faults)
    assert reason in found.faults[table]
    assert len(found.faults[table]) < 200
    said = {"indexes": found.indexes, "merge": found.policies, "types": found.modules}
    assert not said.pop(table)
    assert all(said.values())
    with pytest.raises(ConfigError, match="somewhere"):
        found.check(table, "somewhere")


def test_the_limits_themselves_are_allowed() -> None:
    """Settings as large as the limits say have no fault."""
    text = "types = " + listed(MAX_MODULES) + "\n" + policies(MAX_POLICIES)
    text += "[indexes]\n" + tables(MAX_COLLECTIONS, listed(MAX_INDEXES))
    found = decode_config(text)
    assert {} == found.faults
    assert {MAX_INDEXES} == {len(fields) for fields in found.indexes.values()}
    assert MAX_COLLECTIONS == len(found.indexes)
    assert {} == decode_config("a = " + "[" * (MAX_NESTING - 1) + "]" * (MAX_NESTING - 1)).faults


@given(st.text(max_size=200) | st.text("[]{}=.,'\"\n#ab10-:T", max_size=200))
def test_no_text_raises(text: str) -> None:
    """Whatever the text, it is settings or has a fault."""
    assert isinstance(decode_config(text.encode(errors="ignore").decode()), Config)


@given(st.integers())
def test_no_change_of_good_settings_raises(seed: int) -> None:
    """Settings with some characters changed are settings or have a fault."""
    choose = random.Random(seed)
    text = list(GOOD)
    for _ in range(choose.randint(1, 5)):
        text[choose.randrange(len(text))] = choose.choice("[]{}=.,'\"\n#ab10-:T_\\\0\x7f\u2028é")
    found: Any = decode_config("".join(text))
    assert isinstance(found, Config)
    assert set(found.faults) <= {"", "indexes", "merge", "types"}
