"""Arguments that make no sense get an error that names them."""

from __future__ import annotations

import datetime
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from taskstore import (
    InvalidDeclarationError,
    InvalidFilterError,
    InvalidRecordError,
    RecordExistsError,
    Store,
    StoreAccessError,
    StoreNotFoundError,
    UntrackedWriteError,
    record,
    where,
)
from taskstore.models import StoredRecord
from tests.store.plans import Plan, append, ids

pytestmark = pytest.mark.public


@record("texts")
class Text:
    """A record of text."""

    id: str
    text: str | None = None
    tags: list[str] = []  # noqa: RUF012 - attrs copies nothing here, and nobody changes it
    notes: dict[str, str] = {}  # noqa: RUF012


@pytest.mark.parametrize(
    "value", [b"x", uuid.UUID(int=1), datetime.date(2026, 1, 1), Path("a")], ids=repr
)
def test_a_text_field_takes_text_only(store: Store, value: Any) -> None:
    """What would be read back as other text than was given is refused, also within a list."""
    for wrong in (Text("a", value), Text("a", tags=["ok", value]), Text("a", notes={"k": value})):
        with pytest.raises(InvalidRecordError, match="expected str, got"):
            store.create(wrong)
    assert 0 == store.count(Text)


@pytest.mark.parametrize("limit", [0, -1, 2**63, "3", 1.5, True, None, []], ids=repr)
def test_a_page_needs_a_limit(store: Store, limit: Any) -> None:
    """A page's limit is a whole number of 1 or more that the database can count to."""
    with pytest.raises(InvalidFilterError, match="limit must be an integer"):
        store.page(Plan, limit=limit)


@pytest.mark.parametrize("name", ["limit", "offset"])
def test_a_window_is_counted(store: Store, name: str) -> None:
    """A limit or offset beyond what the database can count to is refused by name."""
    with pytest.raises(InvalidFilterError, match=f"{name} must be an integer"):
        store.list(Plan, **{name: 2**63})


@pytest.mark.parametrize(
    "path", ["", "a\0b", b"x", "x" * 5000], ids=["empty", "nul", "bytes", "long"]
)
def test_a_path_that_names_no_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any
) -> None:
    """A path that cannot be a directory's is named, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreAccessError):
        Store.open(path)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("types", ["plans", {}, Plan, 5], ids=repr)
def test_types_are_a_list_of_record_classes(tmp_path: Path, types: Any) -> None:
    """A name, a mapping or a single class in place of the list is refused with the right form."""
    with pytest.raises(InvalidDeclarationError, match=r"types=\[Plan\]"):
        Store.open(tmp_path / "store", types=types)


@pytest.mark.parametrize(
    "target", [5, None, "session", object()], ids=["int", "none", "str", "object"]
)
def test_only_sessions_are_attached(store: Store, target: Any) -> None:
    """What is no session, nor makes any, cannot be attached."""
    with pytest.raises(UntrackedWriteError, match="sessionmaker"):
        store.attach(target)


def test_two_new_rows_of_one_key_are_refused(store: Store) -> None:
    """Two rows of one key in one flush are refused, and nothing is there."""
    with store.session() as session:
        session.add_all([StoredRecord.from_record(Plan("a")), StoredRecord.from_record(Plan("a"))])
        with pytest.raises(RecordExistsError):
            session.commit()
    assert [] == ids(store)


def test_integers_beyond_64_bits_compare_as_doubles_within_lists(store: Store) -> None:
    """A list that holds an integer beyond 64 bits is found by itself, as a single one is."""
    append(store.path, {"id": "a", "n": [10**29], "m": 10**29})
    for condition in (
        where("n") == [10**29],
        where("n").contains(10**29),
        where("m") == 10**29,
    ):
        assert ["a"] == [plan["id"] for plan in store.list("plans", condition)]


def test_a_directory_that_is_gone_is_not_made_behind_ones_back(tmp_path: Path) -> None:
    """A store that was to make no directory, or whose project is gone, says that it is gone."""
    project = tmp_path / "project"
    Store.open(project / "store").close()
    with (
        Store.open(project / "store", create=False) as careful,
        Store.open(project / "store") as other,
    ):
        shutil.rmtree(project / "store")
        with pytest.raises(StoreNotFoundError):
            careful.list("plans")
        shutil.rmtree(project)
        with pytest.raises(StoreNotFoundError):
            other.list("plans")
    assert not project.exists()
