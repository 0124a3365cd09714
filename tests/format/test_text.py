"""Text for people cannot steer the terminal that shows it."""

from __future__ import annotations

import inspect
import pickle
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore import errors
from taskstore._format.problems import Problem
from taskstore._sync.verification import Difference
from taskstore._text import visible
from taskstore.errors import TaskstoreError

HOSTILE = "a\x1b]0;title\x07\x9b31m\r\n\x7f\u202eb\u2028c\udc9b"
STEERING = {"BN", "B", "S", "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
ERRORS = [
    kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, TaskstoreError)
]


def steers(text: str) -> list[str]:
    """The characters of a text that a terminal would not just show."""
    return [
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in STEERING - {"BN", "B", "S"}
    ]


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "L", "So", "Zs", "Po"])))
def test_nothing_that_steers_stays(text: str) -> None:
    """No control character, mark of direction, line end or surrogate is left, and all else is."""
    shown = visible(text)
    assert [] == steers(shown)
    assert [] == [character for character in shown if character in "\u061c\u200e\u200f"]
    shown.encode()
    assert shown == visible(shown)


def test_what_only_looks_odd_is_shown() -> None:
    """Joiners, emoji, combining marks and other scripts are left as they are."""
    text = "é e\u0301 記録 שלום 👩\u200d👩\u200d👧 \u00a0 \\x1b"
    assert text == visible(text)


def test_an_escape_says_which_character() -> None:
    """Each escape is what Python, or C, writes for the character."""
    assert r"\t\n\r\x1b\x00\x7f\x9b\u061c\u2028\u202e\u2069\ud800" == visible(
        "\t\n\r\x1b\x00\x7f\x9b\u061c\u2028\u202e\u2069\ud800"
    )


def made(kind: type[TaskstoreError], text: str) -> TaskstoreError:
    """An error with a text for each argument that may have one."""
    arguments: dict[str, Any] = {}
    positional: list[Any] = []
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        note = str(parameter.annotation)
        value: Any = [text] if "Sequence" in note else text
        if note.startswith(("int", "float", "bool")):
            value = 1
        if parameter.kind is parameter.KEYWORD_ONLY:
            arguments[name] = value
        else:
            positional.append(value)
    return kind(*positional, **arguments)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_the_message_of_an_error_steers_nothing(kind: type[TaskstoreError]) -> None:
    """Names, ids, paths and reasons are escaped in the message, and unchanged as facts."""
    error = made(kind, HOSTILE)
    assert [] == steers(str(error))
    assert str(error) == str(pickle.loads(pickle.dumps(error)))
    # These make their command and their reason themselves.
    ours = {
        "BranchError", "CommitNotFoundError", "GitObjectMissingError", "MergeConflictError",
    }  # fmt: skip
    made_here = {"command", "reason"} if kind.__name__ in ours else set()
    given = {name: value for name, value in vars(error).items() if name not in made_here}
    facts = [value for value in given.values() if isinstance(value, str)]
    assert [] == [fact for fact in facts if HOSTILE not in fact]


def test_what_a_report_says_steers_nothing() -> None:
    """A problem and a difference are said on one line, with escapes."""
    problems = [Problem(None, HOSTILE, 1, HOSTILE), Problem(None, HOSTILE, None, "?", HOSTILE)]
    difference = Difference(HOSTILE, HOSTILE, "different", HOSTILE, HOSTILE)
    assert [] == steers("".join(map(str, [*problems, difference])))
