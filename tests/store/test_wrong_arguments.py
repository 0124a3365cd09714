"""Arguments that make no sense get an error that names them."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from taskstore import (
    CommitNotFoundError,
    CursorError,
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


@pytest.mark.parametrize("timeout", [None, "30", float("nan"), True], ids=repr)
def test_a_timeout_is_a_number(tmp_path: Path, timeout: Any) -> None:
    """A timeout that is not a number of seconds is refused by name, and no store is created."""
    with pytest.raises(InvalidDeclarationError, match="a number of seconds"):
        Store.open(tmp_path / "store", lock_timeout=timeout)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("cursor", [0, b"0", ["0"], "x" * 500], ids=repr)
def test_a_cursor_is_a_text(store: Store, cursor: Any) -> None:
    """A value that is not a cursor is refused as one, even the number 0."""
    with pytest.raises(CursorError, match="is not a cursor"):
        store.consumer("mailer", start=cursor)
    with pytest.raises(CursorError, match="is not a cursor"):
        list(store.changes(cursor))


@pytest.mark.parametrize("name", ["\ud800", "a\0b", "", "-x", b"HEAD", ("HEAD",)], ids=repr)
def test_what_cannot_name_a_commit_names_none(tmp_path: Path, name: Any) -> None:
    """A text that no program can be given is a commit that is not there."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with Store.open(tmp_path / ".taskstore") as store, pytest.raises(CommitNotFoundError):
        store.revert(name)


def test_a_start_that_cannot_be_looked_at_is_a_typed_error(tmp_path: Path) -> None:
    """A name that is too long for the file system has no store, and says why."""
    with pytest.raises(StoreAccessError, match="too long"):
        Store.find(tmp_path / ("x" * 300))


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


DATABASES = {
    "url": "postgresql://ada:secret@host/app",
    "path of a url": Path("sqlite:///app.db"),
    "URL": make_url("postgresql://ada:secret@host/app"),
    "engine": create_engine("sqlite://"),
    "session": Session(),
}


@pytest.mark.parametrize("path", DATABASES.values(), ids=DATABASES.keys())
def test_a_database_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    """A URL or an engine in place of the path is refused with a remedy, and without passwords."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreAccessError, match=r"engine=create_engine\(\.\.\.\)") as caught:
        Store.open(path)
    assert "secret" not in str(caught.value)
    assert [] == list(tmp_path.iterdir())


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """The path of a file is refused as that."""
    (tmp_path / "plans.jsonl").touch()
    with pytest.raises(StoreAccessError, match="it is a file, and a store is a directory"):
        Store.open(tmp_path / "plans.jsonl")


@pytest.mark.parametrize(
    ("engine", "remedy"),
    [
        ("sqlite:///app.db", r"create_engine\('sqlite:///app.db'\)"),
        (make_url("sqlite:///app.db"), r"create_engine\('sqlite:///app.db'\)"),
        (Session(), r"session\.get_bind\(\)"),
    ],
    ids=["text", "URL", "session"],
)
def test_an_engine_is_an_engine(tmp_path: Path, engine: Any, remedy: str) -> None:
    """What an engine can be made of, or got from, is refused with the call that does so."""
    with pytest.raises(UntrackedWriteError, match=remedy):
        Store.open(tmp_path / "s", engine=engine)
    assert [] == list(tmp_path.iterdir())


class Typed(TypedDict):
    """A record as a TypedDict."""

    id: str


@dataclasses.dataclass
class Data:
    """A record as a dataclass."""

    id: str


class Named(NamedTuple):
    """A record as a tuple."""

    id: str


class Model(pydantic.BaseModel):
    """A record as a Pydantic model."""

    id: str


class Struct(msgspec.Struct):
    """A record as a msgspec Struct."""

    id: str


FOREIGN = {
    Typed: "is a TypedDict, .* name the collection",
    Data: "remove @dataclass",
    Named: "is a tuple",
    Model: r"model_dump\(mode=.json.\)",
    Struct: r"msgspec\.to_builtins\(struct\)",
    StoredRecord: r"mirrors=\[",
}


@pytest.mark.parametrize("cls", FOREIGN, ids=lambda cls: cls.__name__)
def test_classes_of_others_are_refused_with_a_remedy(store: Store, cls: Any) -> None:
    """A class that is no record class says what to do, wherever it is given."""
    for call in (lambda: record("other")(cls), lambda: store.list(cls)):
        with pytest.raises(InvalidDeclarationError, match=FOREIGN[cls]):
            call()


def test_dicts_take_their_collection_first(store: Store) -> None:
    """A collection and a dict mean the same as a dict and its collection."""
    made = store.create("plain", {"id": "a", "n": 1})
    assert made == store.get("plain", "a")
    assert "b" == store.create_many("plain", [{"id": "b"}])[0]["id"]
    assert 2 == store.update("plain", {"id": "a", "n": 2})["n"]
    assert 3 == store.save("plain", {"id": "a", "n": 3})["n"]
    assert "c" == store.save_many("plain", ({"id": id} for id in "c"))[0]["id"]
    wrong: list[Any] = [("plain",), ({"id": "x"}, {"id": "y"})]
    for arguments in wrong:
        with pytest.raises(InvalidDeclarationError, match="a collection and a dict"):
            store.create(*arguments)
    assert 3 == store.count("plain")


def test_a_write_returns_what_is_stored(store: Store) -> None:
    """A dict comes back with the values that are read later, whatever it was given."""
    given = {
        "id": "a",
        "day": datetime.date(2026, 1, 2),
        "pair": (1, 2),
        "deep": {"k": [uuid.UUID(int=1)]},
    }
    made = store.create("plain", given)
    assert made == store.get("plain", "a")
    assert ("2026-01-02", [1, 2]) == (made["day"], made["pair"])
    assert made["updated_at"] == given["updated_at"]
    plain = {"id": "b", "list": [1], "real": 0.5}
    assert store.create("plain", plain) is plain


@record("fitting")
class Fit:
    """Fields of several types."""

    id: str
    count: int = 0
    ratio: float | None = None
    done: bool = False
    kind: Literal["a", "b"] = "a"
    day: datetime.date | None = None
    tags: list[str] = []  # noqa: RUF012
    facts: dict[str, int] = {}  # noqa: RUF012
    mixed: int | str = 0
    anything: Any = None


@pytest.mark.parametrize(
    "condition",
    [
        where("count") > "5",
        where("count") == "5",
        where("count").in_([1, "x"]),
        where("count").contains(5),
        where("ratio") < "x",
        where("done") == "yes",
        where("kind") == 5,
        where("day") == 20260101,
        where("tags") == "x",
        where("facts") == [1],
        where("mixed") == [1],
        where("id") == 5,
        ~(where("count") == "x") | (where("done") == 1),
    ],
    ids=str,
)
def test_a_value_that_can_never_match_is_refused(store: Store, condition: Any) -> None:
    """A filter whose value is not of its field's type is a mistake, in every call that filters."""
    calls: list[Callable[[], Any]] = [
        lambda: store.list(Fit, condition),
        lambda: store.count(Fit, condition),
        lambda: store.exists(Fit, condition),
        lambda: store.page(Fit, condition),
        lambda: list(store.iterate(Fit, condition)),
        lambda: store.delete_where(Fit, condition),
        lambda: store.patch(Fit, "a", condition, count=1),
    ]
    for call in calls:
        with pytest.raises(InvalidFilterError, match="field '"):
            call()


def test_values_that_can_match_are_taken(store: Store) -> None:
    """Numbers are one kind, None is always possible, and a field of any type takes any value."""
    store.create(Fit("a", tags=["x"], facts={"k": 1}, day=datetime.date(2026, 1, 1)))
    for condition in (
        where("count") == 0.0,
        where("count") == False,  # noqa: E712
        where("done") == 0,
        where("ratio") == None,  # noqa: E711
        where("count").in_([None, 0]),
        where("kind") == "a",
        where("day") == datetime.date(2026, 1, 1),
        where("day") >= "2026-01-01",
        where("tags") == ["x"],
        where("tags").contains("x"),
        where("facts") == {"k": 1},
        where("mixed") != "x",
        where("anything") != [1],
        where("id") == "a",
    ):
        assert ["a"] == [each.id for each in store.list(Fit, condition)], condition
