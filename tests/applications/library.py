"""The club's library from the examples, as it is or adopted, in clones of a repository."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
from sqlalchemy import create_engine

from taskstore import Store, mirror_all
from tests.merge.repositories import Repository

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "club_library"
PATCH = EXAMPLE / "git_tracked.patch"


def laid_out(folder: Path, *, adopted: bool) -> ModuleType:
    """The program, copied into a new folder and imported from it."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if adopted:
        # Not the repository that the folder may happen to be in.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        subprocess.run(["git", "apply", str(PATCH)], cwd=folder, env=environment, check=True)
    spec = importlib.util.spec_from_file_location("club_library", folder / "library.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where SQLAlchemy looks for what annotations mean.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


@attrs.frozen
class Club:
    """A clone in which the program is used.

    Attributes:
        repository: The clone.
        library: The program.
    """

    repository: Repository
    library: Any

    def run(self, command: str, *arguments: str) -> str:
        """Run a command in the clone, and return what it prints."""
        printed = io.StringIO()
        with contextlib.chdir(self.repository.path), contextlib.redirect_stdout(printed):
            self.library.run(getattr(self.library, command), *arguments)
        return printed.getvalue()

    def graph(self) -> list[Any]:
        """What the clone holds, by names in place of numbers; the same in clones that agree."""
        found: list[Any] = []

        def read(session: Any) -> None:
            books, loans = session.query(self.library.Book), session.query(self.library.Loan)
            subjects = session.query(self.library.Subject)
            found.extend(sorted((path_of(one), len(one.books)) for one in subjects))
            found.extend(sorted(told(book) for book in books))
            found.extend(
                sorted(
                    (
                        loan.copy.shelf if loan.copy else "",
                        loan.member.name if loan.member else "",
                        loan.renewals,
                        str(loan.due),
                    )
                    for loan in loans
                )
            )

        with contextlib.chdir(self.repository.path):
            self.library.run(read)
        return found

    def check(self) -> None:
        """The logs, the cache and the tables agree, and nothing is left to be done."""
        engine = create_engine(f"sqlite:///{self.repository.path / 'library.db'}")
        mirrors = mirror_all(self.library.Base)
        directory = self.repository.path / ".taskstore"
        with Store.open(directory, engine=engine, mirrors=mirrors, migrate=True) as store:
            assert [] == store.sync().problems
            report = store.verify()
            assert ((), ()) == (report.differences, report.problems)
        engine.dispose()


def path_of(subject: Any) -> str:
    """The names of a subject and of those that it is part of."""
    return "" if subject is None else f"{path_of(subject.wider)}/{subject.name}"


def told(book: Any) -> tuple[Any, ...]:
    """A book with all that belongs to it."""
    copies = [
        (copy.shelf, sorted((one.member.name, one.renewals) for one in copy.loans if one.member))
        for copy in book.copies
    ]
    authors = sorted(author.name for author in book.authors)
    return book.title, path_of(book.subject), authors, sorted(copies)
