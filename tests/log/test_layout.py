"""The store directory."""

from __future__ import annotations

import os
from typing import Any

import pytest

from taskstore._log.layout import Layout
from taskstore.errors import StoreAccessError, StoreNotFoundError, StoreVersionError


def test_a_new_directory_is_complete(directory: Any) -> None:
    """A directory is made with its parents, version and ignored names; twice is once."""
    layout = Layout(directory / "deeper" / ".taskstore")
    layout.create()
    layout.create()
    assert "1" == layout.version_path.read_text()
    assert list(Layout.IGNORED) == layout.ignore_path.read_text().splitlines()
    assert {".version", ".gitignore"} == {path.name for path in layout.directory.iterdir()}


def test_an_old_directory_gains_ignored_names_only(directory: Any) -> None:
    """What is in the .gitignore stays, also when its last line has no newline."""
    directory.mkdir()
    (directory / ".gitignore").write_text("taskstore.db\n# mine\ntaskstore.log")
    Layout(directory).prepare()
    lines = (directory / ".gitignore").read_text().splitlines()
    assert ["taskstore.db", "# mine", "taskstore.log"] == lines[:3]
    assert set(Layout.IGNORED) <= set(lines)
    before = (directory / ".gitignore").stat()
    Layout(directory).prepare()
    assert before.st_mtime_ns == (directory / ".gitignore").stat().st_mtime_ns


@pytest.mark.parametrize("text", ["2", "10", "0", "", "one", "1.0", "-1", "²"])
def test_an_unknown_version_is_refused(directory: Any, text: Any) -> None:
    """A greater version, or none that we know, is refused, and nothing is written."""
    directory.mkdir()
    (directory / ".version").write_text(text)
    with pytest.raises(StoreVersionError) as caught:
        Layout(directory).prepare()
    assert text == caught.value.found
    assert [".version"] == os.listdir(directory)


@pytest.mark.parametrize("text", ["1", "1\n", " 1 \r\n"])
def test_our_version_is_accepted(directory: Any, text: Any) -> None:
    """White space around the number does not matter."""
    directory.mkdir()
    (directory / ".version").write_text(text)
    assert 1 == Layout(directory).check_version()


def test_strays_are_reported_and_not_loaded(directory: Any) -> None:
    """What ends in .jsonl and is no log of a collection is a problem."""
    directory.mkdir()
    for name in ("b.jsonl", "a.jsonl", "a b.jsonl", ".jsonl", "notes.txt", "c.jsonl.orig"):
        (directory / name).touch()
    (directory / "folder.jsonl").mkdir()
    (directory / "link.jsonl").symlink_to(directory / "a.jsonl")
    os.mkfifo(directory / "pipe.jsonl")
    names, problems = Layout(directory).collections()
    assert ["a", "b"] == names
    reported = {os.path.basename(problem.path) for problem in problems}
    assert {"a b.jsonl", ".jsonl", "folder.jsonl", "link.jsonl", "pipe.jsonl"} == reported


def test_find_walks_up(directory: Any) -> None:
    """The nearest directory in or above the start is found."""
    directory.mkdir()
    below = directory.parent / "a" / "b"
    below.mkdir(parents=True)
    assert directory == Layout.find(below) == Layout.find(directory) == Layout.find(below.parent)


def test_find_says_that_there_is_none(tmp_path: Any) -> None:
    """Without a directory above, the error names the start."""
    (tmp_path / "x").mkdir()
    with pytest.raises(StoreNotFoundError) as caught:
        Layout.find(tmp_path / "x")
    assert str(tmp_path / "x") == caught.value.path


def test_refusals_are_typed(directory: Any) -> None:
    """A file in the place of the directory, or no directory: a typed error."""
    directory.write_text("")
    with pytest.raises(StoreAccessError):
        Layout(directory).create()
    with pytest.raises(StoreNotFoundError):
        Layout(directory.parent / "nothing").collections()
