"""A classic application from the examples: adopted by a few lines, used in three clones."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from taskstore import Store, mirror_all
from tests.applications.library import PATCH, Club, laid_out
from tests.merge.repositories import Repository

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

ROUNDS = 3
DAY = 6
"""How many commands a clone runs between two merges."""


def test_the_patch_is_short() -> None:
    """At most ten changed lines adopt seven tables."""
    changed = re.findall(r"^[+-](?!\+\+ |-- ).*$", PATCH.read_text(encoding="utf-8"), re.MULTILINE)
    assert 10 >= len(changed)
    assert [] == [line for line in changed if line.startswith("-")]


def test_the_application_without_a_store(tmp_path: Path) -> None:
    """Before the patch it is an application like any other, which knows nothing of us."""
    library = laid_out(tmp_path / "club", adopted=False)
    club = Club(Repository(tmp_path / "club"), library)
    club.run("add", "Dune", "B1", "novels", "Frank Herbert")
    club.run("lend", "Dune", "Ada")
    club.run("renew", "Ada")
    assert "B1, with Ada, renewed 1 times" in club.run("show")
    assert not (tmp_path / "club" / ".taskstore").exists()
    assert "taskstore" not in Path(str(library.__file__)).read_text(encoding="utf-8")


@pytest.fixture
def clones(tmp_path: Path) -> dict[str, Club]:
    """Two clones of a library that was used before it was adopted, and exported in one of them."""
    before = laid_out(tmp_path / "before", adopted=False)
    old = Club(Repository(tmp_path / "before"), before)
    old.run("add", "Dune", "B1", "novels", "Frank Herbert")
    old.run("add", "Emma", "B2", "novels/classic", "Jane Austen")
    old.run("lend", "Dune", "Ada")
    held = old.graph()
    library = laid_out(tmp_path / "one", adopted=True)
    shutil.copy(tmp_path / "before" / "library.db", tmp_path / "one" / "library.db")
    one = Repository(tmp_path / "one")
    one.git("init", "-q", "-b", "main")
    one.write("*.jsonl merge=union text eol=lf\n", ".gitattributes")
    one.write("library.db*\n__pycache__/\n", ".gitignore")
    one.use_driver()
    engine = create_engine(f"sqlite:///{one.path / 'library.db'}")
    mirrors = mirror_all(library.Base)
    with Store.open(one.path / ".taskstore", engine=engine, mirrors=mirrors, migrate=True) as store:
        assert 12 == store.export()
    engine.dispose()
    one.commit("adopt")
    clubs = {"one": Club(one, library), "two": Club(one.clone(tmp_path / "two"), library)}
    assert [held, held] == [club.graph() for club in clubs.values()]
    return clubs


def merge(one: Club, two: Club, place: Path) -> None:
    """Commit on both sides, merge, and compare both with each other and with a fresh clone."""
    for club in (one, two):
        club.repository.git("add", "-A")
        club.repository.git("commit", "-q", "--allow-empty", "-m", "a day")
    two.repository.git("pull", "-q", "--no-rebase", "--no-edit")
    one.repository.git("pull", "-q", "--no-rebase", "--no-edit", str(two.repository.path), "main")
    one.check()
    two.check()
    held = one.graph()
    assert held == two.graph()
    three = Club(one.repository.clone(place), one.library)
    assert held == three.graph()
    three.check()


def test_both_clones_and_a_fresh_one_hold_the_same(clones: dict[str, Club], tmp_path: Path) -> None:
    """They create, edit, delete and merge, and use the same numbers for different rows."""
    one, two = clones.values()
    one.run("add", "Persuasion", "C1", "novels/classic", "Jane Austen", "A Friend")
    one.run("lend", "Persuasion", "Grace")
    one.run("give_back", "Dune", "Ada")
    two.run("add", "Solaris", "C2", "novels", "Stanisław Lem", "A Friend")
    two.run("lend", "Solaris", "Grace")
    two.run("remove", "Emma")
    two.run("renew", "Ada")
    merge(one, two, tmp_path / "three")
    assert {"Dune", "Persuasion", "Solaris"} == {
        title for title, *rest in one.graph() if len(rest) == 3 and isinstance(rest[1], list)
    }
    assert 1 == one.run("show").count("A Friend, Jane Austen")
    assert 1 == one.run("show").count("A Friend, Stanisław Lem")


def test_whatever_both_clones_do(
    clones: dict[str, Club], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After each merge they hold the same objects, and so does a fresh clone."""
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\ntwo clubs, {ROUNDS} rounds, seed {seed}")
    chance = random.Random(seed)
    one, two = clones.values()
    for number in range(ROUNDS):
        for name, club in clones.items():
            for step in range(DAY):
                work(club, chance, f"{name[0]}{number}{step}")
        merge(one, two, tmp_path / f"fresh{number}")


def work(club: Club, chance: random.Random, mark: str) -> None:
    """Run a command that fits what there is."""
    titles = re.findall(r"^ +(.+?) \(", club.run("show"), re.MULTILINE)
    title, member = chance.choice([*titles, "Dune"]), chance.choice(["Ada", "Grace", "Mary"])
    commands: list[tuple[Callable[[], Any], bool]] = [
        (lambda: club.run("add", title, mark, "novels", "A Friend"), True),
        (lambda: club.run("add", f"Book {mark}", mark, f"new/{mark[0]}", mark), True),
        (lambda: club.run("remove", title), title in titles),
        (lambda: club.run("lend", title, member), title in titles),
        (lambda: club.run("give_back", title, member), True),
        (lambda: club.run("renew", member), True),
    ]
    command, fits = chance.choice(commands)
    if fits:
        try:
            command()
        except SystemExit:
            # No copy is free.
            return
