"""The settings in config.toml: written from record types, and every other byte kept."""

from __future__ import annotations

import tomllib

import pytest

from taskstore import ConfigError
from taskstore._merge.settings_text import add_policies, add_types
from tests.git.clones import Clone

MODELS = """
from taskstore import indexed, record

@record("plans")
class Plan:
    id: str
    title: str = indexed(default="", merge="text")
    rank: int = indexed(default=0, merge="max")
"""

EVILS = "raise SystemExit('code of a clone was run')"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '[merge.plans]\nrank = "max"\n"x y" = "text"\n'),
        ("# mine", '# mine\n\n[merge.plans]\nrank = "max"\n"x y" = "text"\n'),
        (
            '[ merge.plans ] # x\nrank = "min" # kept\n\n# end\n[o]\na = [\n1]\n',
            '[ merge.plans ] # x\nrank = "min" # kept\n\n# end\n"x y" = "text"\n[o]\na = [\n1]\n',
        ),
        (
            '[merge.plans]\nother = "max"',
            '[merge.plans]\nother = "max"\nrank = "max"\n"x y" = "text"\n',
        ),
        (
            '[merge.plans]\n"x y" = "fail"\nrank = "min"\n',
            '[merge.plans]\n"x y" = "fail"\nrank = "min"\n',
        ),
    ],
)
def test_policies_are_added_and_the_rest_stays(text: str, expected: str) -> None:
    """What misses is added to its table; comments, order and other values stay as they are."""
    assert expected == add_policies(text, {"plans": {"rank": "max", "x y": "text"}}, "c")


@pytest.mark.parametrize(
    "text", ['merge = {plans = {other = "max"}}\n', '[merge]\nplans.other = "max"\n', "[merge"]
)
def test_an_unusual_form_is_refused_with_the_lines_to_add(text: str) -> None:
    """A file that cannot be added to by lines is left, and what to add is told."""
    with pytest.raises(ConfigError, match="not TOML" if text == "[merge" else 'add rank = "max"'):
        add_policies(text, {"plans": {"rank": "max"}}, "c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 'types = ["m"]\n'),
        ("# mine\n[merge.plans]\n", '# mine\ntypes = ["m"]\n\n[merge.plans]\n'),
        ('types = ["k"] \n[x]\n', 'types = ["k", "m"]\n[x]\n'),
        ('types = ["m"]', 'types = ["m"]'),
    ],
)
def test_the_modules_of_types_are_added(text: str, expected: str) -> None:
    """The setting stands before the first table, and keeps the modules that it has."""
    assert expected == add_types(text, ["m"], "c")
    assert "m" in tomllib.loads(expected)["types"]


def test_init_writes_the_policies_of_record_types(clone: Clone) -> None:
    """`init --types` writes what the types declare, and the merge driver goes by it."""
    clone.write(MODELS, "models.py")
    assert ["types", "merge.plans"] == clone.json("init", "--types", "models")["written"]
    config = clone.read(".taskstore/config.toml")
    assert {"types": ["models"], "merge": {"plans": {"title": "text", "rank": "max"}}} == (
        tomllib.loads(config)
    )
    assert [] == clone.json("init", "--types", "models")["written"]
    assert config == clone.read(".taskstore/config.toml")
    clone.change("a", rank=1)
    clone.git("switch", "-qc", "other")
    clone.change("a", rank=7)
    clone.git("switch", "-q", "main")
    clone.change("a", rank=5)
    clone.git("merge", "-q", "other")
    assert 7 == clone.plans()["a"]["rank"]


def test_the_doctor_compares_the_policies_with_the_types(clone: Clone) -> None:
    """What misses is added by `--fix`; what differs is told, and only a person changes it."""
    clone.write(MODELS, "models.py")
    text = '# by hand\n[merge.plans]\nrank = "min"\n'
    clone.write(text, ".taskstore/config.toml")
    found = clone.json("doctor", "--types", "models", status=1)
    assert [True, False] == [item["is_safe"] for item in found["findings"]]
    assert (
        "plans.rank is merged by 'min', but its record type says 'max'"
        in (found["findings"][1]["message"])
    )
    clone.taskstore("doctor", "--fix", "--types", "models", status=1)
    assert text + 'title = "text"\n' == clone.read(".taskstore/config.toml")


def test_a_clone_alone_makes_nobody_run_its_code(clone: Clone) -> None:
    """A module that config.toml names is not looked for in the repository, not even if trusted."""
    clone.write(EVILS, "evil.py")
    clone.write(EVILS, "src/evil.py")
    clone.write('types = ["evil"]\n', ".taskstore/config.toml")
    clone.taskstore("trust", "evil")
    found = clone.json("doctor")
    assert ["types"] == [item["code"] for item in found["findings"]]
    assert "No module named 'evil'" in found["findings"][0]["message"]


def test_types_that_cannot_be_imported_are_an_error_where_they_are_asked_for(clone: Clone) -> None:
    """`--types` with a module that is not there, or has no record type, says so."""
    clone.write("x = 1\n", "empty.py")
    for name, reason in (("absent", "No module named"), ("empty", "no class in it is declared")):
        done = clone.run("init", "--types", name)
        assert 3 == done.returncode
        assert reason in done.stderr
