"""Two clones of one repository, each with an application and a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.merge.repositories import Repository
from tests.mirror.clones import Clone, cloned

Pair = tuple[Repository, Clone, Repository, Clone]


@contextmanager
def paired(folder: Path, fill: Callable[[Clone], None], *application: Any) -> Iterator[Pair]:
    """Open two clones that push to and pull from a bare repository.

    Args:
        folder: Where all three are.
        fill: Gives the first clone its rows, before it is committed.
        application: What `cloned` takes after the folder.
    """
    origin = folder / "origin.git"
    with ExitStack() as stack:
        first = stack.enter_context(cloned(folder / "one", *application))
        one = Repository(first.folder)
        one.git("init", "-q", "-b", "main")
        one.write("*.jsonl merge=union text eol=lf\n", ".gitattributes")
        one.write("app.db*\n", ".gitignore")
        fill(first)
        one.commit()
        one.git("clone", "-q", "--bare", ".", str(origin))
        one.git("remote", "add", "origin", str(origin))
        one.git("fetch", "-q", "origin")
        one.git("branch", "-q", "--set-upstream-to=origin/main", "main")
        one.use_driver()
        two = one.clone(folder / "two")
        two.git("remote", "set-url", "origin", str(origin))
        second = stack.enter_context(cloned(two.path, *application))
        yield one, first, two, second


def exchange(one: Repository, first: Clone, two: Repository, second: Clone) -> None:
    """Commit on both sides, merge on the one, and fetch on the other."""
    one.commit("ours")
    two.commit("theirs")
    one.git("push", "-q", "origin", "main")
    two.git("pull", "-q", "--no-rebase", "--no-edit")
    two.git("push", "-q", "origin", "main")
    one.git("pull", "-q", "--no-rebase", "--no-edit")
    for clone in (first, second):
        assert [] == clone.store.sync().problems
        clone.check()
