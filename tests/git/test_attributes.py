"""Where git learns what a log is, also if the store's own attributes are not checked out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.git.clones import Clone, new_clone
from tests.merge.repositories import LOG

INFO = ".git/info/attributes"


@pytest.fixture
def early(tmp_path: Path) -> Clone:
    """A branch `topic` from before the installation, which is committed on `main`; we are there."""
    clone = new_clone(tmp_path / "a [b]* \"c\" 'd'", install=False)
    clone.git("branch", "topic")
    clone.taskstore("init")
    clone.commit("install")
    return clone


def fields(clone: Clone, *names: str) -> list[Any]:
    """Fields of the record a."""
    return [clone.plans()["a"].get(name) for name in names]


def test_a_branch_from_before_the_installation_is_merged_by_record(early: Clone) -> None:
    """Main is merged into a branch that has no attributes, and nothing is in conflict."""
    early.change("a", title="M")
    early.git("switch", "-q", "topic")
    early.change("a", status="B")
    early.git("merge", "-q", "main")
    assert ["M", "B"] == fields(early, "title", "status")


def test_a_stash_is_popped_on_a_branch_from_before_the_installation(early: Clone) -> None:
    """What was stashed on main is merged into a branch that has no attributes."""
    early.put("a", title="M")
    early.git("stash", "-q")
    early.git("switch", "-q", "topic")
    early.change("a", status="B")
    early.git("stash", "pop", "-q")
    assert ["M", "B"] == fields(early, "title", "status")


@pytest.mark.parametrize("call", [("--no-cone", "/d/"), ("--cone", "--sparse-index", "d")])
def test_a_store_that_is_not_checked_out_is_merged_with_its_policies(
    early: Clone, call: tuple[str, ...]
) -> None:
    """In a sparse checkout a log is merged by record, as the config.toml in git says."""
    early.write('[merge.plans]\nlabels = "union"\nrank = "min"\n', ".taskstore/config.toml")
    early.write("", "d/f")
    early.commit("policies")
    early.git("switch", "-qc", "other")
    early.change("a", title="M", rank=2)
    early.git("switch", "-q", "main")
    early.change("a", status="B", rank=1)
    early.change("a", rank=3)
    early.git("sparse-checkout", "set", *call)
    assert not (early.directory / LOG).exists()
    early.git("merge", "-q", "other")
    early.git("sparse-checkout", "disable")
    assert ["M", "B", 2] == fields(early, "title", "status", "rank")


def test_a_store_that_was_moved_is_merged_at_its_new_place(early: Clone) -> None:
    """One side has moved the store, and changes of the other side come to where it is now."""
    early.git("switch", "-qc", "other")
    early.change("a", title="M")
    early.git("switch", "-q", "main")
    early.put("a", status="B")
    (early.path / "sub").mkdir()
    early.git("mv", ".taskstore", "sub/.taskstore")
    early.commit("move")
    early.git("merge", "-q", "other")
    assert "<<<<" not in early.read(f"sub/{LOG}")
    moved = Clone(early.path / "sub")
    assert ["M", "B"] == fields(moved, "title", "status")


def test_the_driver_finds_the_policies_in_git_from_a_folder_below(clone: Clone) -> None:
    """PATH is a name in the repository wherever the driver runs, and with no work tree at hand."""
    clone.write('[merge.plans]\nrank = "max"\n', ".taskstore/config.toml")
    clone.commit("policy")
    (clone.directory / "config.toml").unlink()
    for name, rank in (("base", 0), ("ours", 9), ("theirs", 5)):
        text = f'{{"id":"a","rank":{rank},"updated_at":{10 - rank}}}\n'
        clone.write(text, f"below/{name}")
    below = Clone(clone.path / "below")
    for index in (clone.path / ".git/index", clone.path / "none"):
        clone.write('{"id":"a","rank":9,"updated_at":1}\n', "below/ours")
        below.taskstore("merge", "base", "ours", "theirs", LOG, GIT_INDEX_FILE=str(index))
        assert '"rank":9' in below.read("ours").splitlines()[-1]


@pytest.mark.parametrize("before", [None, b"", b"*.bin binary", b"*.bin binary\n"])
@pytest.mark.parametrize("has_folder", [True, False])
def test_the_attributes_of_a_clone_are_as_before_after_uninstalling(
    clone: Clone, before: bytes | None, has_folder: bool
) -> None:
    """What stands in info/attributes stays to the byte, and what was not there is gone."""
    clone.taskstore("git", "uninstall")
    info = clone.path / INFO
    assert not info.exists()
    if before is not None:
        info.parent.mkdir(exist_ok=True)
        info.write_bytes(before)
    elif not has_folder:
        for path in info.parent.iterdir():
            path.unlink()
        info.parent.rmdir()
    clone.taskstore("git", "install")
    assert (before or b"").rstrip(b"\n") in info.read_bytes()
    assert clone.json("git", "status")["ok"]
    clone.taskstore("git", "uninstall")
    assert before == (info.read_bytes() if info.exists() else None)
    assert (has_folder or before is not None) == info.parent.exists()


def test_an_older_installation_is_completed(clone: Clone) -> None:
    """A clone without attributes of its own is told of it, and `--fix` writes them."""
    (clone.path / INFO).unlink()
    (finding,) = clone.json("doctor", status=1)["findings"]
    assert ("clone-attributes", True) == (finding["code"], finding["is_safe"])
    assert not clone.json("git", "status", status=1)["attributes"]["in_clone"]
    assert clone.json("doctor", "--fix")["ok"]


@pytest.mark.parametrize("file", [INFO, ".taskstore/.gitattributes"])
def test_what_overrides_our_lines_is_named(clone: Clone, file: str) -> None:
    """Where an installation cannot help, the file to edit is told, and no command is advised."""
    with (clone.path / file).open("a") as attributes:
        attributes.write("*.bin binary\n")
    assert clone.json("doctor")["ok"]
    with (clone.path / file).open("a") as attributes:
        attributes.write("*.jsonl merge=binary -diff\n")
    done = clone.run("git", "status")
    assert 1 == done.returncode
    assert "merge is binary; diff is unset" in done.stdout
    assert f"edit {clone.path / file}: " in done.stderr
    assert "taskstore git install" not in done.stderr
    (finding,) = clone.json("doctor", status=1)["findings"]
    assert ("attributes", False) == (finding["code"], finding["is_safe"])
    assert finding["remedy"].startswith(f"edit {clone.path / file}: ")
    assert [str(clone.path / file)] == (
        clone.json("git", "status", status=1)["attributes"]["overridden_in"]
    )


def test_what_the_clone_said_of_logs_before_does_not_count(clone: Clone) -> None:
    """A pattern of info/attributes that would keep git from merging logs comes before ours."""
    clone.taskstore("git", "uninstall")
    (clone.path / INFO).parent.mkdir(exist_ok=True)
    (clone.path / INFO).write_bytes(b"*.jsonl merge=binary -diff\n")
    clone.taskstore("git", "install")
    assert clone.json("git", "status")["ok"]
    assert clone.json("doctor")["ok"]


@pytest.mark.parametrize("attribute", ["ident", "working-tree-encoding=UTF-16LE", "export-subst"])
def test_no_pattern_of_the_repository_changes_values(
    clone: Clone, tmp_path: Path, attribute: str
) -> None:
    """A value is the same in a clone and in an archive, whatever the repository says of files."""
    clone.write(f"*.jsonl {attribute}\n", ".gitattributes")
    clone.change("a", title="$Id: 42 $ $Format:%s$")
    assert clone.json("doctor")["ok"]

    other = clone.clone(tmp_path / "other", driver=False)

    assert "$Id: 42 $ $Format:%s$" == clone.plans()["a"]["title"]
    assert clone.plans() == other.plans()
    assert "$Format:%s$" in clone.git("archive", "HEAD", LOG).stdout


def test_older_attributes_are_brought_up_to_date(clone: Clone) -> None:
    """Lines of an earlier version stay where they do no harm, and are replaced where they do."""
    for name in (INFO, ".taskstore/.gitattributes"):
        path = clone.path / name
        old = path.read_text().replace(" -ident !working-tree-encoding -export-subst", "")
        path.write_text(old)
    clone.commit("older attributes")
    assert clone.json("doctor")["ok"]
    clone.write("* ident\n", ".gitattributes")
    clone.commit("ident")
    (finding,) = clone.json("doctor", status=1)["findings"]
    assert ("clone-attributes", True) == (finding["code"], finding["is_safe"])
    assert clone.json("doctor", "--fix")["ok"]
    clone.taskstore("git", "uninstall")
    assert not (clone.path / INFO).exists()
