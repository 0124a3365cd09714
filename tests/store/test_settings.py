"""Indexes that config.toml names, for whoever works without types."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from taskstore import ConfigError, Store, indexed, record, where
from taskstore._log.layout import Layout
from taskstore._store.settings import change_indexes
from taskstore._survey.summary import indexes


@record("things")
class Thing:
    """A type that indexes one field."""

    id: str
    size: int = indexed(default=0)


def fill(directory: Path) -> Layout:
    """Make a store of things."""
    with Store.open(directory) as store:
        store.create_many(
            ({"id": f"t{n}", "size": n, "tag": f"tag {n % 3}"} for n in range(9)),
            collection="things",
        )
    return Layout(directory)


def known(directory: Path, *types: type) -> list[tuple[str, str, int]]:
    """The indexes of a store that is opened with some types."""
    with Store.open(directory, types=types) as store:
        assert store.verify().ok
        return [(index.field, index.type, index.records) for index in indexes(store)]


def test_settings_index_without_a_type(directory: Path) -> None:
    """What config.toml names is indexed when the store is opened, and dropped again with it."""
    layout = fill(directory)
    assert ("tag", "size") == change_indexes(layout, "things", add=["tag", "size"])
    assert '[indexes]\nthings = ["tag", "size"]\n' == layout.config_path.read_text()
    assert [("size", "any", 9), ("tag", "any", 9)] == known(directory)
    with Store.open(directory) as store:
        store.create({"id": "new", "tag": "tag 1"}, collection="things")
        assert 4 == store.count("things", where("tag") == "tag 1")
        assert 1 == store.count("things", where("size").is_(None))
    assert ("size",) == change_indexes(layout, "things", drop=["tag"])
    assert [("size", "any", 9)] == known(directory)
    assert () == change_indexes(layout, "things", drop=["size"])
    assert [] == known(directory)


def test_a_type_and_the_settings_both_count(directory: Path) -> None:
    """A type's fields and those of the settings are indexed together; the type's word is first."""
    layout = fill(directory)
    change_indexes(layout, "things", add=["tag", "size"])
    both = [("size", "int", 9), ("tag", "any", 9)]
    assert both == known(directory, Thing)
    assert both == known(directory)
    assert both == known(directory, Thing)
    change_indexes(layout, "things", drop=["tag"])
    assert [("size", "int", 9)] == known(directory)


def test_indexes_come_back_with_the_cache(directory: Path) -> None:
    """A cache that was deleted is indexed anew, also one that goes while the store is open."""
    layout = fill(directory)
    change_indexes(layout, "things", add=["tag"])
    with Store.open(directory) as store:
        layout.cache_path.unlink()
        assert 3 == store.count("things", where("tag") == "tag 1")
        assert [("tag", 9)] == [(index.field, index.records) for index in indexes(store)]


def test_a_reader_has_them_too(directory: Path) -> None:
    """A store that writes nothing indexes its memory."""
    change_indexes(fill(directory), "things", add=["tag"])
    with Store.open(directory, read_only=True) as store:
        assert ["tag"] == [index.field for index in indexes(store)]


def test_settings_that_cannot_be_used_change_nothing(directory: Path) -> None:
    """Settings that are no TOML are reported, records are served, and the indexes stay."""
    layout = fill(directory)
    change_indexes(layout, "things", add=["tag"])
    assert [("tag", "any", 9)] == known(directory)
    layout.config_path.write_text("<<<<<<< ours\n[indexes]\n")
    assert [("tag", "any", 9)] == known(directory)
    assert [("size", "int", 9), ("tag", "any", 9)] == known(directory, Thing)
    with Store.open(directory) as store:
        [problem] = store.sync().problems
    assert problem.path.endswith("config.toml")
    assert problem.reason.startswith("not TOML")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# why\n[merge.things]\ntag = 'min' # kept\n",
        "[indexes] # these\n'other' = ['a'] # kept\n\n[merge.things]\ntag = 'min'\n",
        "[indexes]\nthings = ['x']\r\nother = []\n",
        "[indexes]\nmore = [\n  'a', # one\n]\n# end\n",
    ],
)
def test_the_rest_of_the_settings_stays(directory: Path, text: str) -> None:
    """A change leaves every other line of the file, its comments among them, as it is."""
    layout = fill(directory)
    layout.config_path.write_bytes(text.encode())
    before = tomllib.loads(text)
    names = change_indexes(layout, "things", add=["tag"])
    after = layout.config_path.read_bytes().decode()
    expected = {**before, "indexes": {**before.get("indexes", {}), "things": list(names)}}
    assert expected == tomllib.loads(after)
    lines = [line for line in text.split("\n") if line and not line.startswith("things")]
    assert lines == [line for line in after.split("\n") if line in lines and line]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("indexes = 1", "indexes must be a table"),
        ("[indexes]\nthings = 'tag'", "must be a list of field names"),
        ("[indexes]\nthings = ['a b']", "invalid field name"),
        ("[indexes]\n'a b' = []", "invalid collection name"),
        ("indexes = { other = ['a'] }", "cannot be changed from here: write things ="),
        ("[indexes]\nthings = [\n 'a',\n]", "cannot be changed from here: write things ="),
    ],
)
def test_settings_that_cannot_be_changed_stay(directory: Path, text: str, reason: str) -> None:
    """Settings that are wrong, or written in an unusual way, raise and are not touched."""
    layout = fill(directory)
    layout.config_path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        change_indexes(layout, "things", add=["tag"])
    assert text == layout.config_path.read_text()
