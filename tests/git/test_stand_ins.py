"""What a filter of git leaves in place of a log is not taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskstore import LogWriteError, Store
from tests.git.clones import Clone, new_clone
from tests.merge.repositories import LOG

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 12345\n"
STAND_INS = {
    "git lfs pull": [POINTER % (digit * 64) for digit in (b"1", b"2", b"3")],
    "git-crypt unlock": [b"\0GITCRYPT\0" + byte * 60 for byte in (b"\x81", b"\n", b"\x83")],
}
each_kind = pytest.mark.parametrize("remedy", STAND_INS)


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone with everything installed."""
    return new_clone(tmp_path / "clone")


@each_kind
def test_nothing_is_appended_to_it(clone: Clone, remedy: str) -> None:
    """A write says what to run, and the file stays as the filter knows it."""
    data = STAND_INS[remedy][0]
    (clone.path / LOG).write_bytes(data)
    for _ in range(2):  # the second time the cache knows the file
        with (
            Store.open(clone.directory) as store,
            pytest.raises(LogWriteError, match=f"run `{remedy}`"),
        ):
            store.create({"id": "c"}, collection="plans")
    assert data == (clone.path / LOG).read_bytes()
    (finding, *_) = clone.json("doctor", status=1)["findings"]
    assert remedy == finding["remedy"]


@each_kind
def test_the_driver_merges_none(clone: Clone, remedy: str) -> None:
    """The driver refuses them and leaves ours, because half of each would be none."""
    for name, data in zip(("base", "ours", "theirs"), STAND_INS[remedy], strict=True):
        (clone.path / name).write_bytes(data)
    done = clone.run("merge", "base", "ours", "theirs", LOG)
    assert 2 == done.returncode
    assert "-filter" in done.stderr
    assert STAND_INS[remedy][1] == (clone.path / "ours").read_bytes()


def test_a_conflict_of_them_is_left_to_a_person(clone: Clone) -> None:
    """`doctor --fix` stages no mixture of two pointers, which an octopus left in conflict."""
    pointers = STAND_INS["git lfs pull"]
    (clone.path / LOG).write_bytes(pointers[0])
    clone.git("commit", "-aqm", "base", "--no-verify")
    for branch, data in zip(("one", "two"), pointers[1:], strict=True):
        clone.git("checkout", "-q", "-b", branch, "main")
        (clone.path / LOG).write_bytes(data)
        clone.git("commit", "-aqm", branch, "--no-verify")
    clone.git("checkout", "-q", "main")
    clone.git("merge", "one", "two", status=1)
    assert "<<<<<<<" in clone.read(LOG)

    clone.run("doctor", "--fix")

    assert LOG in clone.git("diff", "--name-only", "--diff-filter=U").stdout
