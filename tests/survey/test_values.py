"""Values, assignments and filters from text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store, where
from taskstore._survey.fields import (
    TextError,
    check_new_fields,
    field_kinds,
    field_names,
    ids_from,
    ids_meant,
    parse_assignments,
    parse_filter,
    typed,
)
from taskstore.errors import UnknownFieldError


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    """A store with fields of all kinds."""
    with Store.open(directory) as store:
        store.create_many(
            [
                {"id": "a", "n": 1, "text": "x", "flag": True, "list": [], "mixed": 1},
                {"id": "b", "n": 2.5, "text": None, "mixed": "two", "odd name": 1, 'q"q': 1},
            ],
            collection="things",
        )
        yield store


@pytest.mark.parametrize(
    ("text", "kinds", "expected"),
    [
        ("5", {"text"}, "5"),
        ("null", {"text"}, "null"),
        ("true", {"text", "null"}, "true"),
        ("5", {"integer"}, 5),
        ("5.5", {"integer"}, 5.5),
        ("null", {"integer"}, None),
        ("true", {"true"}, True),
        ("false", {"true"}, False),
        ("5", {"text", "integer"}, 5),
        ("five", {"text", "integer"}, "five"),
        ("[1]", {"array"}, [1]),
        ('{"a": 1}', {"object"}, {"a": 1}),
        ("5", set(), 5),
        ("-0.5e3", set(), -500.0),
        ("0012", set(), "0012"),
        ("NaN", set(), "NaN"),
        ('"quoted"', set(), '"quoted"'),
        ("", set(), ""),
        ("null", set(), None),
        ("five", {"null"}, "five"),
    ],
)
def test_text_is_typed_by_the_log(text: str, kinds: set[str], expected: Any) -> None:
    """A text means what the field has had; in a new field what looks like JSON is that."""
    found = typed("field", text, kinds)
    assert (expected, type(expected)) == (found, type(found))


@pytest.mark.parametrize(
    ("text", "kind"), [("x", "integer"), ("true", "real"), ("1", "true"), ("a,b", "array")]
)
def test_text_that_fits_nothing_is_refused(text: str, kind: str) -> None:
    """A text unlike all that the field has had raises, and says how to have it all the same."""
    with pytest.raises(TextError, match=f'write JSON after :=, as in field:="{text}"'):
        typed("field", text, {kind})


def test_assignments_name_fields_and_values(store: Store) -> None:
    """name=text is typed, name:=json is as it says, and the first = divides."""
    texts = ["n=7", "text=a=b", "flag:=null", "id=5", "odd name=3"]
    expected = {"n": 7, "text": "a=b", "flag": None, "id": "5", "odd name": 3}
    assert expected == parse_assignments(store, "things", texts)


def test_fields_are_known(store: Store) -> None:
    """The survey knows names, JSON types and ids of what is there."""
    assert ["flag", "id", "list", "mixed", "n", "odd name", 'q"q', "text", "updated_at"] == (
        field_names(store, "things")
    )
    assert {"integer", "real"} == field_kinds(store, "things", "n")
    assert {"text", "integer"} == field_kinds(store, "things", "mixed")
    assert set() == field_kinds(store, "things", "nope") == field_kinds(store, "nope", "n")
    assert ["a"] == ids_from(store, "things", "a", 5)
    assert ["a"] == ids_meant(store, ["things"], "A", 3)
    assert [] == ids_meant(store, ["things"], "", 3)
    assert [] == ids_meant(store, [], "a", 3)


def test_a_misspelt_new_field_is_refused(store: Store) -> None:
    """A new field that is like a known one is refused; others are new."""
    assert ["due"] == check_new_fields(store, "things", ["due", "n", "id"])
    with pytest.raises(UnknownFieldError, match="did you mean 'text'"):
        check_new_fields(store, "things", ["txet"])
    assert [] == check_new_fields(store, "empty", ["anything"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=1", where("n") == 1),
        ("n == 1", where("n") == 1),
        ("n!=1", where("n") != 1),
        ("n<=2.5", where("n") <= 2.5),
        ("n >= 1", where("n") >= 1),
        ("text=a=b", where("text") == "a=b"),
        ("text~x y", where("text").contains("x y")),
        ("text!~x", ~where("text").contains("x")),
        ("text", where("text").is_not(None)),
        ("!text", where("text").is_(None)),
        ("text:=null", where("text") == None),  # noqa: E711
        ('list!:=["a"]', where("list") != ["a"]),
        ("id=5", where("id") == "5"),
        ("updated_at>2024-01-02", where("updated_at") > "2024-01-02T00:00:00Z"),
        ("updated_at<5", where("updated_at") < 5),
    ],
)
def test_a_filter_means_a_condition(text: str, expected: object, store: Store) -> None:
    """The text of a filter means what `where` would build."""
    assert str(expected) == str(parse_filter(store, "things", text))


@pytest.mark.parametrize("text", ["", "=1", "n=1!", "!n=1", "a b", "a-b=1", "n=>1"])
def test_what_is_no_filter_is_refused(text: str, store: Store) -> None:
    """A text that is not a filter, or compares with what cannot be, raises."""
    with pytest.raises(TextError):
        parse_filter(store, "things", text)
