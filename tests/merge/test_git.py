"""Merges that the real git makes, with the driver and without it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.merge.repositories import LOG, Repository, line, new_repository

pytestmark = [
    pytest.mark.public,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

BASE = line("a", 1, title="A", status="open", labels=["x"]) + line("b", 1, title="B")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with two records."""
    return new_repository(tmp_path / "a repository's folder", BASE)


def test_a_fresh_clone_merges_with_the_configured_driver(
    repository: Repository, tmp_path: Path
) -> None:
    """In a fresh clone, edits of different fields of one record on both sides both survive."""
    repository.diverge(
        BASE + line("a", 5, title="A", status="done", labels=["x"]),
        BASE + line("a", 4, title="Better", status="open", labels=["x", "y"]),
    )
    clone = repository.clone(tmp_path / "clone")
    clone.git("merge", "-q", "origin/other")
    assert {
        "id": "a",
        "title": "Better",
        "status": "done",
        "labels": ["x", "y"],
        "updated_at": 5,
    } == clone.records()["a"]
    assert "" == clone.git("status", "--porcelain").stdout


@pytest.mark.parametrize("arguments", ["%O %A", "%O %A %B %P %P"])
def test_a_driver_with_wrong_arguments_drops_nothing(
    repository: Repository, arguments: str
) -> None:
    """A driver that is configured with the wrong number of arguments makes the merge fail."""
    ours, theirs = BASE + line("a", 2, title="O"), BASE + line("a", 3, title="T")
    repository.diverge(ours, theirs)
    driver = repository.git("config", "merge.union.driver").stdout.strip()
    repository.use_driver(driver.replace("%O %A %B %P", arguments))
    repository.git("merge", "-q", "other", status=1)
    assert f"UU {LOG}" == repository.git("status", "--porcelain").stdout.strip()
    assert theirs == repository.git("show", f":3:{LOG}").stdout


def test_absence_deletes_only_what_the_base_had(repository: Repository) -> None:
    """A line that one side removed is gone, unless the other edited it; an unknown one stays."""
    first, second = BASE.splitlines(keepends=True)
    repository.diverge(second + line("c", 2), first + line("b", 3, title="New") + line("d", 2))
    repository.git("merge", "-q", "other")
    assert {"b", "c", "d"} == set(repository.records())


def test_without_the_driver_git_falls_back_to_union(tmp_path: Path) -> None:
    """A clone without the driver gets the lines of both sides, which replay to the newest."""
    repository = new_repository(tmp_path / "plain", BASE, driver=False)
    repository.diverge(
        BASE + line("a", 5, title="O") + line("c", 2), BASE + line("a", 4, title="T")
    )
    repository.git("merge", "-q", "other")
    assert 5 == len(repository.read().splitlines())
    assert {"a": "O", "b": "B", "c": None} == {
        id: fields.get("title") for id, fields in repository.records().items()
    }
    repository.use_driver()
    repository.git("switch", "-qc", "third", "HEAD~1")
    repository.append(line("b", 9, title="Third"))
    repository.commit()
    repository.git("merge", "-q", "main")
    assert {"O", "Third", None} == {fields.get("title") for fields in repository.records().values()}


def test_several_lines_for_an_id_are_normal(repository: Repository) -> None:
    """A log with several lines for an id merges, keeps them all, and has the newest last."""
    ours = BASE + line("a", 2, title="2") + line("a", 3, title="3")
    theirs = BASE + line("b", 2, title="2") + line("b", 3, title="3")
    repository.diverge(ours, theirs)
    repository.git("merge", "-q", "other")
    assert sorted({*ours.splitlines(), *theirs.splitlines()}) == sorted(
        repository.read().splitlines()
    )
    assert {"a": "3", "b": "3"} == {id: r["title"] for id, r in repository.records().items()}


def test_two_clones_converge_in_one_round(repository: Repository, tmp_path: Path) -> None:
    """Two clones that each merge the other's change have the same bytes at once."""
    here, there = repository.clone(tmp_path / "here"), repository.clone(tmp_path / "there")
    here.append(line("a", 5, title="Here", status="open", labels=["x"]) + line("c", 6))
    there.append(line("a", 5, title="There", status="done", labels=["x"]) + line("d", 4))
    here.commit()
    there.commit()
    here.git("fetch", "-q", str(there.path), "main:theirs")
    there.git("fetch", "-q", str(here.path), "main:theirs")
    here.git("merge", "-q", "theirs")
    there.git("merge", "-q", "theirs")
    assert here.read() == there.read()
    # Criss-cross: both go on, and merge what the other has made of it.
    here.append(line("a", 7, title="Last", status="done", labels=["x"]))
    there.append(line("a", 8, title="There", status="done", labels=["x", "y"]))
    here.commit()
    there.commit()
    here.git("fetch", "-q", str(there.path), "+main:theirs")
    there.git("fetch", "-q", str(here.path), "+main:theirs")
    here.git("merge", "-q", "theirs")
    there.git("merge", "-q", "theirs")
    assert here.read() == there.read()
    assert ("Last", ["x", "y"]) == tuple(here.records()["a"][key] for key in ("title", "labels"))


def test_unknown_keys_survive(repository: Repository) -> None:
    """Keys of a newer version, and the bytes of their values, survive a merge of both sides."""
    odd = '{"id":"a","title":"%s","x-new":{"n": 1.50,"u":"\\u00e9"},"updated_at":%d%s}\n'
    repository.write(BASE + odd % ("A", 2, ""))
    repository.commit()
    repository.diverge(
        BASE + odd % ("A", 2, "") + odd % ("O", 3, ""),
        BASE + odd % ("A", 2, "") + odd % ("A", 4, ',"more":[1]'),
    )
    repository.git("merge", "-q", "other")
    assert repository.read().endswith(odd % ("O", 4, ',"more":[1]'))


def test_a_marker_inside_a_string_is_text(repository: Repository) -> None:
    """Conflict markers in a record's text, also after an escaped newline, are no markers."""
    text = "<<<<<<< ours\n=======\n>>>>>>> theirs"
    repository.diverge(BASE + line("a", 2, title=text), BASE + line("b", 2, title=text))
    repository.git("merge", "-q", "other")
    assert {text} == {fields["title"] for fields in repository.records().values()}


def test_markers_of_an_earlier_merge_are_left_to_a_person(repository: Repository) -> None:
    """A log with conflict markers makes the merge fail, with the lines of both sides kept."""
    block = f"<<<<<<< x\n{line('a', 2, title='1')}=======\n{line('a', 2, title='2')}>>>>>>> y\n"
    repository.diverge(BASE + block, BASE + line("b", 7, title="New"))
    done = repository.git("merge", "other", status=1)
    assert "conflict markers of an earlier merge" in done.stderr
    kept = repository.read().splitlines()
    assert set(kept) >= {*(BASE + block).splitlines(), line("b", 7, title="New").rstrip()}
    assert f"UU {LOG}" == repository.git("status", "--porcelain").stdout.strip()


@pytest.mark.parametrize(("ours", "theirs", "lives"), [(5, 4, True), (4, 5, False), (5, 5, True)])
def test_delete_against_edit(repository: Repository, ours: int, theirs: int, lives: bool) -> None:
    """Of a deletion and an edit the newer holds, and the edit of two that are as new."""
    repository.diverge(
        BASE + line("b", ours, title="Edited"), BASE + line("b", theirs, deleted=True)
    )
    done = repository.git("merge", "other")
    assert lives == ("b" in repository.records())
    assert "b: deleted: ours" in done.stderr


def test_add_add_of_one_id(repository: Repository) -> None:
    """A record that both sides created is one record, with the fields of both."""
    repository.diverge(
        BASE + line("c", 5, title="O", mine=1), BASE + line("c", 6, title="T", yours=2)
    )
    done = repository.git("merge", "other")
    assert {"id": "c", "title": "T", "mine": 1, "yours": 2, "updated_at": 6} == (
        repository.records()["c"]
    )
    assert 'c: title: ours "O", theirs "T": took theirs (newer)' in done.stderr


def test_a_log_that_both_sides_created_merges(tmp_path: Path) -> None:
    """A log that neither side had before has the records of both."""
    repository = new_repository(tmp_path / "new", "", driver=True)
    repository.git("rm", "-q", LOG)
    repository.git("commit", "-qm", "none")
    repository.diverge(line("a", 1), line("b", 1))
    repository.git("merge", "-q", "other")
    assert {"a", "b"} == set(repository.records())


def test_rebase_and_cherry_pick_use_the_driver(repository: Repository) -> None:
    """A rebase of several commits, and a cherry-pick, merge without a conflict."""
    repository.git("switch", "-qc", "other")
    for n in range(3):
        repository.append(line("a", 10 + n, title=f"T{n}", status="open", labels=["x"]))
        repository.commit()
    repository.git("switch", "-q", "main")
    repository.append(line("a", 50, title="A", status="done", labels=["x"]))
    repository.commit()
    repository.git("switch", "-q", "other")
    repository.git("rebase", "-q", "main")
    assert ("T2", "done") == tuple(repository.records()["a"][key] for key in ("title", "status"))
    repository.git("switch", "-q", "main")
    repository.git("cherry-pick", "other~1")
    assert ("T1", "done") == tuple(repository.records()["a"][key] for key in ("title", "status"))


def test_a_revert_takes_back_one_change_alone(repository: Repository) -> None:
    """Reverting a commit undoes its change of a record, and keeps what was changed since."""
    repository.append(line("a", 2, title="Wrong", status="open", labels=["x"]))
    repository.commit()
    repository.append(line("a", 3, title="Wrong", status="done", labels=["x"]))
    repository.commit()
    repository.git("revert", "--no-edit", "HEAD~1")
    assert {"id": "a", "title": "A", "status": "done", "labels": ["x"], "updated_at": 3} == (
        repository.records()["a"]
    )


def test_a_stash_is_popped_onto_other_changes(repository: Repository) -> None:
    """`git stash pop` after a commit to the same record keeps both changes."""
    repository.append(line("a", 2, title="Stashed", status="open", labels=["x"]))
    repository.git("stash", "-q")
    repository.append(line("a", 3, title="A", status="done", labels=["x"]))
    repository.commit()
    repository.git("stash", "pop", "-q")
    found = repository.records()["a"]
    assert ("Stashed", "done") == (found["title"], found["status"])


def test_a_store_in_a_folder_with_an_odd_name_merges(repository: Repository) -> None:
    """Spaces and quotes in the path of a log are no obstacle, and its config.toml is found."""
    folder = 'an "odd" folder\'s $HOME/.taskstore'
    name = f"{folder}/plans.jsonl"
    repository.write('[merge.plans]\nrank = "max"\n', f"{folder}/config.toml")
    repository.write(BASE, name)
    repository.commit()
    repository.diverge(BASE + line("a", 5, rank=3), BASE + line("a", 6, rank=2), name)
    repository.git("merge", "-q", "other")
    assert line("a", 6, rank=3) == repository.read(name).splitlines(keepends=True)[-1]


def test_policies_come_from_the_store_in_the_repository(repository: Repository) -> None:
    """The config.toml beside the log settles a field, and `fail` leaves it to a person."""
    repository.write('[merge.plans]\nrank = "max"\nowner = "fail"\n', name=".taskstore/config.toml")
    repository.commit()
    repository.diverge(
        BASE + line("a", 5, rank=3, owner="me"), BASE + line("a", 6, rank=2, owner="you")
    )
    done = repository.git("merge", "other", status=1)
    assert 'a: owner: ours "me", theirs "you": left to decide' in done.stderr
    block = repository.read().partition("<<<<<<< ours\n")[2]
    assert (
        line("a", 6, rank=3, owner="me") + "=======\n" + line("a", 6, rank=3, owner="you")
    ) + ">>>>>>> theirs\n" == block


def test_an_unknown_policy_stops_the_merge(repository: Repository) -> None:
    """A policy that does not exist makes the merge fail with a message, ours untouched."""
    repository.write('[merge.plans]\nrank = "best"\n', name=".taskstore/config.toml")
    repository.commit()
    ours = BASE + line("a", 5, rank=3)
    repository.diverge(ours, BASE + line("a", 6, rank=2))
    done = repository.git("merge", "other", status=1)
    assert "[merge.plans] rank: unknown policy 'best': choose one of newest, union" in done.stderr
    assert ours == repository.read()


def test_files_that_are_no_logs_merge_as_git_would(repository: Repository) -> None:
    """A file of the same ending outside a store directory has the lines of both sides."""
    name = "data/rows.jsonl"
    repository.write("one\ntwo\n", name)
    repository.commit()
    repository.diverge("one\nours\ntwo\n", "one\ntheirs\ntwo\n", name)
    repository.git("merge", "-q", "other")
    assert "one\nours\ntheirs\ntwo\n" == repository.read(name)


def test_windows_line_ends_and_a_torn_tail_merge(repository: Repository) -> None:
    """A byte-order mark, CRLF and a last line without newline are read; LF is written."""
    repository.write("*.jsonl merge=union -text\n", ".gitattributes")
    repository.commit()
    ours = ("\ufeff" + BASE + line("a", 5, title="O")).replace("\n", "\r\n").rstrip()
    repository.diverge(ours, BASE + line("b", 5, title="T"))
    repository.git("merge", "-q", "other")
    assert BASE + line("a", 5, title="O") + line("b", 5, title="T") == repository.read()
