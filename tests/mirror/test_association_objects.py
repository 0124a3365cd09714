"""A table may be a mirrored class and lie between two others, in every kind of relationship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    mapped_column,
    relationship,
)

from taskstore import mirrored
from taskstore._mirror.model.registry import registry
from tests.mirror.clones import Clone, cloned


class Own(DeclarativeBase):
    """An application's base."""


@mirrored("links", updated_at=None)
class Link(Own):
    """Between an article and a word, and more than that."""

    __tablename__ = "links"
    article_id: Mapped[str] = mapped_column(ForeignKey("articles.id"), primary_key=True)
    word_id: Mapped[str] = mapped_column(ForeignKey("words.id"), primary_key=True)
    weight: Mapped[int] = mapped_column(default=1)
    word: Mapped[Word] = relationship(viewonly=True)


@mirrored("articles", updated_at=None)
class Article(Own):
    """Has words, directly and by links."""

    __tablename__ = "articles"
    id: Mapped[str] = mapped_column(primary_key=True)
    words: Mapped[list[Word]] = relationship(secondary="links")
    seen: Mapped[list[Word]] = relationship(secondary="links", viewonly=True)
    written: WriteOnlyMapped[Word] = relationship(secondary="links", overlaps="words,moving")
    moving: DynamicMapped[Word] = relationship(secondary="links", overlaps="words,written")
    links: Mapped[list[Link]] = relationship(
        cascade="all, delete-orphan", overlaps="words,written,moving"
    )


@mirrored("words", updated_at=None)
class Word(Own):
    """A word."""

    __tablename__ = "words"
    id: Mapped[str] = mapped_column(primary_key=True)


MIRRORS = [Article, Link, Word]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    """A clone of it."""
    with cloned(tmp_path / "one", MIRRORS, Own) as found:
        yield found


def pairs(clone: Clone) -> set[tuple[str, str, int]]:
    """What the table holds."""
    return {(row.article_id, row.word_id, row.weight) for row in clone.rows(Link)}


@pytest.mark.parametrize("name", ["words", "written", "moving"])
def test_pairs_by_a_collection(clone: Clone, name: str) -> None:
    """What a relationship adds to the table and takes from it is in the log of its class."""
    with clone.sessions.begin() as session:
        article = Article(id="a")
        session.add(article)
        some = getattr(article, name)
        for word in "xy":
            (some.append if name == "words" else some.add)(Word(id=word))
    assert {("a", "x", 1), ("a", "y", 1)} == pairs(clone)
    assert {'["a","x"]', '["a","y"]'} == set(clone.told("links"))
    with clone.sessions.begin() as session:
        article = session.get_one(Article, "a")
        getattr(article, name).remove(session.get_one(Word, "x"))
    assert {'["a","y"]'} == set(clone.told("links"))
    assert {("a", "y", 1)} == pairs(clone)
    clone.check()


def test_pairs_by_the_class(clone: Clone, tmp_path: Path) -> None:
    """Instances of the class and pairs of the relationship are the same rows in another clone."""
    with clone.sessions.begin() as session:
        article = Article(id="a", links=[Link(word_id="x", weight=5)])
        session.add_all([Word(id="x"), Word(id="y"), article])
        session.flush()
        article.words.append(session.get_one(Word, "y"))
    assert {("a", "x", 5), ("a", "y", 1)} == pairs(clone)
    with cloned(tmp_path / "two", MIRRORS, Own) as two:
        two.take(clone)
        assert [] == two.store.sync().problems
        with two.sessions.begin() as session:
            article = session.get_one(Article, "a")
            assert ["x", "y"] == sorted(word.id for word in article.seen)
            assert "x" == session.get_one(Link, ("a", "x")).word.id
            article.links.clear()
        clone.take(two)
        assert [] == clone.store.sync().problems
        assert set() == pairs(clone) == pairs(two)
        clone.check()
        two.check()


def test_only_viewed(tmp_path: Path) -> None:
    """A table that is only read through a relationship is not mirrored for it."""

    class Base(DeclarativeBase):
        """Another base."""

    class Between(Base):
        __tablename__ = "betweens"
        one_id: Mapped[str] = mapped_column(ForeignKey("ones.id"), primary_key=True)
        two_id: Mapped[str] = mapped_column(ForeignKey("twos.id"), primary_key=True)

    class Two(Base):
        __tablename__ = "twos"
        id: Mapped[str] = mapped_column(primary_key=True)

    class One(Base):
        __tablename__ = "ones"
        id: Mapped[str] = mapped_column(primary_key=True)
        twos = relationship(Two, secondary="betweens", viewonly=True)

    for name, model in (("ones", One), ("twos", Two)):
        mirrored(name, updated_at=None)(model)
    with cloned(tmp_path / "one", [One, Two], Base) as clone:
        assert {"ones", "twos"} == {one.collection for one in registry(clone.store._context)}
        with clone.sessions.begin() as session:
            session.add_all([One(id="1"), Two(id="2")])
            session.flush()
            session.add(Between(one_id="1", two_id="2"))
        clone.check()
