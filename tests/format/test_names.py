"""Names and ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.names import check_collection_name, check_field_name, check_id
from taskstore.errors import InvalidIdError, InvalidNameError


@pytest.mark.parametrize("name", ["a", "plans", "work-items_2", "A" * 64, "-", "_"])
def test_collection_names(name: Any) -> None:
    """Letters, digits, `_` and `-`, up to 64 of them, name a collection."""
    assert name == check_collection_name(name)


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "a/b", "..", "é", "a\n", "a.b", 3, None])
def test_bad_collection_names(name: Any) -> None:
    """Anything else is refused, and the error carries it."""
    with pytest.raises(InvalidNameError) as caught:
        check_collection_name(name)
    assert name == caught.value.name
    assert "collection" == caught.value.kind


@pytest.mark.parametrize("name", ["a-b", "", "a.b", "x" * 65, "$", "a\n", None])
def test_bad_field_names(name: Any) -> None:
    """A field name has no hyphen either."""
    with pytest.raises(InvalidNameError) as caught:
        check_field_name(name)
    assert "field" == caught.value.kind


@pytest.mark.parametrize("id", ["", " ", "\t\n", "\u2003"])
def test_empty_and_blank_ids(id: Any) -> None:
    """Empty and blank ids are refused with "cannot be empty"."""
    with pytest.raises(InvalidIdError, match="cannot be empty") as caught:
        check_id(id, "plans")
    assert (id, "plans") == (caught.value.id, caught.value.collection)


@pytest.mark.parametrize("id", [None, 1, b"x", "x" * 257, "\ud800", "a\udfff"])
def test_bad_ids(id: Any) -> None:
    """No string, too long, or with a lone surrogate: no id."""
    with pytest.raises(InvalidIdError):
        check_id(id)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256))
def test_any_other_text_is_an_id(id: Any) -> None:
    """Any characters make an id, as long as one of them is not white space."""
    if id.strip():
        assert id == check_id(id)
