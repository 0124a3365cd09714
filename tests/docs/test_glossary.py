"""The glossary explains the terms that public names are made of."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from sqlalchemy.orm import Session

import taskstore

# Words with their everyday meaning, of Python or of SQLAlchemy.
ORDINARY = set(
    re.findall(
        r"\w+",
        """
    access action after all as asc async at attach author before blocking boundary branch bytes
    changed changes close closed column commit config conflict contains converter count create data
    delete deleted depth desc descending detach dict dropped elsewhere encode engine eq error exists
    failed failing find first flush follow format found ge get git gt in into invalid is items
    iterate join kind le lines list lock lt make many map max migration min missing model ms
    name ne new next none not now object of ok one only op open order owner patch path pending
    read ready reason rebuild repaired report required restore rollback run save schema select
    session size skipped split subject taskstore time timeout to tolerant trigger uncertain
    unchanged unknown unsupported untracked update updated us value verify warning where write
    """,
    )
)


def terms(root: Path) -> list[str]:
    """The terms of the glossary, in their order."""
    text = (root / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
    return re.findall(r"^(\w[\w ]*)$", text.partition("```{glossary}")[2], re.MULTILINE)


def public_words() -> dict[str, str]:
    """Each word that public names are made of, with one of these names."""
    words = {}
    for name in taskstore.__all__:
        found = getattr(taskstore, name)
        names = [name]
        if inspect.isclass(found) and not issubclass(found, BaseException | str):
            theirs = dir(Session) if issubclass(found, Session) else ()
            own = [one for one in dir(found) if one not in theirs and not one.startswith("_")]
            names += [f"{name}.{one}" for one in own]
        for one in names:
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", one.rpartition(".")[2]):
                words.setdefault(word.lower(), one)
    return words


def known(word: str, explained: set[str]) -> bool:
    """Whether a word, or what it is a form of, is explained or needs no explanation."""
    endings = {"": "", "s": "", "es": "", "ed": "", "d": "", "e": "ion", "ies": "y"}
    forms = {
        word.removesuffix(ending) + other
        for ending, other in endings.items()
        if word.endswith(ending)
    }
    return bool(forms & (explained | ORDINARY))


def test_public_names_use_terms_of_the_glossary(repository_root: Path) -> None:
    """A word in a public name is in the glossary, unless it has its everyday meaning."""
    explained = {word for term in terms(repository_root) for word in term.split()}
    explained |= {"compact", "evolve", "mirror", "recover"}  # their nouns are terms
    unknown = {word: name for word, name in public_words().items() if not known(word, explained)}
    assert {} == unknown


def test_the_glossary_is_sorted_and_used(repository_root: Path) -> None:
    """Terms are in order, and each occurs in the pages outside the glossary."""
    found = terms(repository_root)
    assert sorted(found) == found
    pages = [path for path in repository_root.glob("docs/**/*.md") if path.stem != "glossary"]
    text = " ".join(path.read_text(encoding="utf-8") for path in pages).lower()
    text = " ".join(text.split())
    assert [] == [term for term in found if term not in text]
