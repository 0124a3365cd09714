"""`taskstore doctor`: each thing that can be wrong is found, named, and mended if that is safe."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store
from taskstore._doctor.log_checks import check_logs, network_file_system
from taskstore._log import files
from taskstore._log.layout import Layout
from taskstore._store.seal import CacheSeal
from tests.git.clones import Clone, files_of
from tests.merge.repositories import LOG, line

FUTURE = 4_000_000_000_000


def codes(found: dict[str, Any]) -> set[str]:
    """The codes of an examination's findings."""
    return {item["code"] for item in found["findings"]}


def test_a_store_in_order_has_no_finding(clone: Clone) -> None:
    """After `init` and some work there is nothing to tell, and nothing is changed by looking."""
    before = files_of(clone.path)
    found = clone.json("doctor")
    assert (True, []) == (found["ok"], found["findings"])
    after = files_of(clone.path)
    assert {name: after[name] for name in after if "taskstore.db-" not in name} == before


def corrupt(clone: Clone) -> None:
    """Change a row of the cache behind the store's back."""
    with sqlite3.connect(clone.directory / "taskstore.db") as database:
        database.execute("UPDATE records SET data_json = replace(data_json, 'open', 'shut')")
    database.close()
    CacheSeal(Layout(clone.directory)).note()


def garble(clone: Clone) -> None:
    """Make the cache a file that is no database."""
    (clone.directory / "taskstore.db").write_bytes(b"no database, " * 1000)
    for name in ("taskstore.db-wal", "taskstore.db-shm"):
        (clone.directory / name).unlink(missing_ok=True)


def newer_schema(clone: Clone) -> None:
    """Give the cache the schema of a version to come."""
    with sqlite3.connect(clone.directory / "taskstore.db") as database:
        database.execute("UPDATE taskstore_version SET version_num = '9999'")
    database.close()
    CacheSeal(Layout(clone.directory)).note()


def ignored(clone: Clone) -> None:
    """Let git ignore the logs."""
    clone.write("*.jsonl\n", ".gitignore")
    clone.write(line("n", 1), ".taskstore/notes.jsonl")
    clone.plans()


def tracked_cache(clone: Clone) -> None:
    """Let git track the cache."""
    clone.git("add", "-f", ".taskstore/taskstore.db")


def carriage_returns(clone: Clone) -> None:
    """Commit a log with CRLF."""
    attributes = clone.path / ".git/info/attributes"
    kept = attributes.rename(attributes.with_name("kept"))
    clone.write("*.jsonl -text\n", ".taskstore/.gitattributes")
    clone.write(clone.read().replace("\n", "\r\n"))
    clone.commit("crlf")
    clone.git("checkout", "-q", "HEAD~1", "--", ".taskstore/.gitattributes")
    kept.rename(attributes)


def aside(clone: Clone) -> None:
    """Leave the lines of a transaction that could not be applied."""
    clone.write("lines\n", ".taskstore/taskstore.journal-20260101T000000-abcdef")


def emptied_hook(clone: Clone) -> None:
    """Overwrite a hook."""
    (clone.path / ".git/hooks/pre-commit").write_text("#!/bin/sh\n")


def absent_types(clone: Clone) -> None:
    """Name a module that cannot be imported."""
    clone.write('types = ["nowhere.at_all"]', ".taskstore/config.toml")


# What is done to a store, the finding, its level, and whether `--fix` mends it.
CASES: list[tuple[Callable[[Clone], object], str, str, bool]] = [
    (corrupt, "cache", "error", True),
    (garble, "cache", "warning", True),
    (newer_schema, "schema", "error", False),
    (lambda c: (c.directory / "taskstore.db").unlink(), "cache", "info", True),
    (lambda c: c.append(line("z", 5)), "stale", "info", True),
    (lambda c: c.append("{broken\n"), "line", "error", False),
    (lambda c: c.append("<<<<<<< ours\n"), "marker", "error", False),
    (lambda c: c.append(line("z", FUTURE)), "clock", "warning", False),
    (lambda c: c.write("x\n", ".taskstore/no log.jsonl"), "stray", "warning", False),
    (aside, "journal-aside", "warning", False),
    (lambda c: (c.directory / ".version").unlink(), "version", "info", True),
    (lambda c: (c.directory / ".gitignore").unlink(), "gitignore", "warning", True),
    (lambda c: c.git("rm", "-q", ".taskstore/.gitattributes"), "attributes", "warning", True),
    (lambda c: c.git("config", "--unset", "merge.union.driver"), "driver", "warning", True),
    (lambda c: (c.path / ".git/hooks/post-merge").unlink(), "hooks", "warning", True),
    (
        lambda c: (c.path / ".git/hooks/pre-commit").write_text("#!/bin/sh\n"),
        "hooks",
        "warning",
        True,
    ),
    (lambda c: c.git("config", "core.hooksPath", os.devnull), "hooks", "warning", False),
    (ignored, "ignored", "error", False),
    (tracked_cache, "tracked-cache", "warning", False),
    (carriage_returns, "line-ends", "warning", False),
    (lambda c: c.write("[merge", ".taskstore/config.toml"), "config", "error", False),
    (
        lambda c: c.write('types = ["nowhere.at_all"]', ".taskstore/config.toml"),
        "types",
        "info",
        False,
    ),
]


@pytest.mark.parametrize(
    ("harm", "code", "level", "mends"),
    CASES,
    ids=[f"{n}-{case[1]}" for n, case in enumerate(CASES)],
)
def test_each_fault_is_found_and_mended_if_that_is_safe(
    clone: Clone, harm: Callable[[Clone], object], code: str, level: str, mends: bool
) -> None:
    """A fault has a code, a level, a meaning and a remedy; `--fix` mends what is safe."""
    harm(clone)
    log = clone.path / LOG
    before = log.read_bytes()
    ok = level == "info"
    found = clone.json("doctor", status=0 if ok else 1)
    (finding,) = (item for item in found["findings"] if item["code"] == code)
    assert (level, mends) == (finding["level"], finding["is_safe"])
    assert finding["message"]
    assert finding["meaning"]
    assert finding["remedy"]
    fixed = clone.json("doctor", "--fix", status=0 if ok or mends else 1)
    assert mends == (code not in codes(fixed))
    assert mends == (code in {item["code"] for item in fixed["fixed"]})
    assert before == log.read_bytes()


def test_a_log_that_may_not_be_read_is_still_a_log(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding does not ask to move it away, which would remove its records from git."""
    open_log = files.open_log

    def refuse(path: Path) -> int:
        if path.name == "plans.jsonl":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_log(path)

    monkeypatch.setattr("taskstore._log.files.open_log", refuse)
    layout = Layout(clone.directory)
    found = {one.code: one for one in check_logs(layout, now_ms=0, is_idle=True)}
    assert "error" == found["unreadable"].level
    assert "permissions" in found["unreadable"].remedy
    assert "stray" not in found


def test_hooks_that_were_there_before_a_tool_came_still_count(clone: Clone) -> None:
    """Where a tool owns the hooks by its settings alone, those that are installed still run."""
    clone.write("", "lefthook.yml")
    assert clone.json("doctor")["ok"]


def test_a_store_of_another_name_is_told(clone: Clone) -> None:
    """A directory that the driver would not take for a store is no place to install for."""
    clone.directory.rename(clone.path / "tasks")
    # The mark is that of the place in the repository.
    clone.taskstore("sync", "--store", "tasks")
    (finding,) = (i for i in clone.json("doctor", "--store", "tasks", status=1)["findings"])
    assert "name" == finding["code"]
    clone.taskstore("git", "install", "--store", "tasks", status=3)


def test_an_interrupted_transaction_is_found_and_settled(clone: Clone, tmp_path: Path) -> None:
    """A journal that a crash left is told, and `--fix` settles it."""
    script = (
        "import os, sys; from taskstore import Store; from taskstore._log import files\n"
        "store = Store.open(sys.argv[1])\n"
        "write = files.write_all\n"
        "def die(fd, data):\n"
        "    write(fd, data[: len(data) // 2])\n"
        "    if b'two' in data and not data.startswith(b'{\"version'): os._exit(9)\n"
        "    write(fd, data[len(data) // 2 :])\n"
        "files.write_all = die\n"
        "store.create_many([{'id': 'one'}, {'id': 'two'}], collection='plans')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, clone.directory], check=False)
    assert 9 == done.returncode
    assert "journal" in codes(clone.json("doctor", status=1))
    clone.taskstore("doctor", "--fix")
    assert {"a", "b"} == set(clone.plans())


def test_the_holder_of_a_lock_is_named(clone: Clone) -> None:
    """While another program holds the lock its process is told, and nothing waits for it."""
    script = (
        "import sys; from taskstore import Store\n"
        "with Store.open(sys.argv[1]) as store, store._context.log_lock.hold(1):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, clone.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert b"held\n" == process.stdout.readline()
        found = clone.json("doctor", status=1)
        process.communicate()
    (finding,) = (item for item in found["findings"] if item["code"] == "lock")
    if sys.platform == "linux":
        assert f"held by process {process.pid} (" in finding["message"]


def test_a_network_file_system_is_noticed(tmp_path: Path) -> None:
    """The innermost mount that a directory is on counts, also where names have spaces."""
    mounts = tmp_path / "mounts"
    place = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(
        "22 1 0:21 / / rw - ext4 /dev/sda1 rw\n"
        f"23 22 0:22 / {place}/a\\040b rw shared:1 - nfs4 host:/x rw\n"
        f"24 23 0:23 / {place}/a\\040b/local rw - tmpfs tmpfs rw\n"
    )
    for name in ("a b/.taskstore", "a b/local/.taskstore", "other"):
        (tmp_path / name).mkdir(parents=True)
    assert ["nfs4", None, None] == [
        network_file_system(tmp_path / name, mounts)
        for name in ("a b/.taskstore", "a b/local/.taskstore", "other")
    ]
    assert network_file_system(tmp_path, tmp_path / "none") is None


def conflict(clone: Clone) -> None:
    """Leave a log in conflict, as git's octopus strategy does."""
    for name in "xy":
        clone.git("switch", "-qc", name, "main")
        clone.change("a", **{name: name})
    clone.git("switch", "-q", "main")
    clone.git("merge", "x", "y", status=1)


def test_a_conflict_comes_first_and_with_what_loses_nothing(clone: Clone) -> None:
    """While a conflict can be merged by record, no finding advises to choose between lines."""
    conflict(clone)
    assert "<<<<<<<" in clone.read()
    findings = clone.json("doctor", status=1)["findings"]
    assert ("conflict", True, "taskstore doctor --fix") == tuple(
        findings[0][key] for key in ("code", "is_safe", "remedy")
    )
    assert "marker" not in {item["code"] for item in findings}
    clone.write(clone.read().replace('"y"', '"z"'))
    findings = clone.json("doctor", status=1)["findings"]
    assert ("conflict", False, f"finish the edit, then git add {LOG}") == tuple(
        findings[0][key] for key in ("code", "is_safe", "remedy")
    )
    assert "marker" in {item["code"] for item in findings}


def test_lines_that_were_written_into_a_conflict_stay(clone: Clone) -> None:
    """What a program appended since a merge failed is kept, behind what is merged."""
    conflict(clone)
    clone.put("late", title="Late")
    found = clone.json("doctor", "--fix")
    assert [LOG] == [item["name"] for item in found["merged"]]
    plans = clone.plans()
    assert ({"x": "x", "y": "y"}, "Late") == (
        {key: plans["a"][key] for key in "xy"},
        plans["late"]["title"],
    )


def test_a_conflict_that_somebody_works_at_is_left_alone(clone: Clone) -> None:
    """A log that was edited since the merge failed is not written over."""
    conflict(clone)
    kept = "\n".join(row for row in clone.read().splitlines() if row[0] == "{" and '"y"' not in row)
    clone.write(kept + "\n")
    assert {"conflict"} == codes(clone.json("doctor", "--fix", status=1))
    assert kept + "\n" == clone.read()
    clone.git("add", LOG)
    assert clone.json("doctor")["ok"]


def linked(path: Path) -> None:
    """Put a link to a file outside of the clone in a log's place."""
    target = path.parent.parent.parent / "precious.jsonl"
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


def endless(path: Path) -> None:
    """Give a log a line that is longer than a line may be."""
    os.truncate(path, path.stat().st_size + 64 * 1024 * 1024)


@pytest.mark.parametrize("make", [linked, endless])
def test_a_conflict_in_what_is_no_log_is_left_alone(
    clone: Clone, make: Callable[[Path], None]
) -> None:
    """A link, or a line without end, in the place of a log in conflict is not merged."""
    conflict(clone)
    path = clone.path / LOG
    make(path)
    before = path.lstat()
    assert "conflict" in codes(clone.json("doctor", "--fix", status=1))
    after = path.lstat()
    assert (before.st_ino, before.st_size, before.st_mode) == (
        after.st_ino,
        after.st_size,
        after.st_mode,
    )


def test_a_conflict_that_git_merged_anew_is_staged(clone: Clone) -> None:
    """`git checkout --merge` calls the driver, and `--fix` finds that nothing is left to do."""
    conflict(clone)
    clone.git("checkout", "-q", "--merge", "--", LOG)
    merged = clone.read()
    clone.taskstore("doctor", "--fix")
    assert (merged, f"M  {LOG}\n") == (clone.read(), clone.git("status", "--porcelain").stdout)


@pytest.mark.parametrize("deleted_here", [True, False])
def test_a_log_that_one_side_deleted_keeps_what_the_other_changed(
    clone: Clone, deleted_here: bool
) -> None:
    """Of a deleted log the records stay that the other side changed, and what came since."""
    clone.put("0", title="Changed too")
    clone.commit("three")
    clone.git("switch", "-qc", "changed")
    clone.change("0", title="Changed")
    text = clone.read()
    clone.git("switch", "-q", "main")
    delete_log(clone, text)
    if not deleted_here:
        clone.git("merge", "--abort")
        clone.git("switch", "-q", "other")
        clone.git("merge", "-q", "main", status=1)
    (finding,) = (i for i in clone.json("doctor", status=1)["findings"] if i["code"] == "conflict")
    assert "one side deleted and the other changed" in finding["message"]
    assert "all that the other side has" in finding["meaning"]
    clone.put("late", title="Late")
    assert [LOG] == [item["name"] for item in clone.json("doctor", "--fix")["merged"]]
    assert {"0": "Changed", "late": "Late"} == {
        id: row["title"] for id, row in clone.plans().items()
    }
    clone.git("commit", "-qm", "merged")
    assert "" == clone.git("status", "--porcelain").stdout


def delete_log(clone: Clone, theirs: str) -> None:
    """Leave a log in conflict that is deleted here and changed there."""
    clone.git("switch", "-qc", "other")
    clone.write(theirs)
    clone.commit("theirs")
    clone.git("switch", "-q", "main")
    clone.git("rm", "-q", LOG)
    clone.git("commit", "-qm", "delete")
    clone.git("merge", "-q", "other", status=1)


def test_a_log_that_one_side_deleted_and_the_other_wrote_anew_is_gone(clone: Clone) -> None:
    """Where no record was changed, the deletion of a log is what is left."""
    delete_log(clone, clone.read().replace('"a",', '"a", '))
    clone.taskstore("doctor", "--fix")
    assert not (clone.path / LOG).exists()
    clone.git("commit", "-qm", "merged")
    assert {} == clone.plans()


def test_a_deleted_log_that_somebody_works_at_is_left_alone(clone: Clone) -> None:
    """A person who has begun to choose lines of a deleted log is not disturbed."""
    delete_log(clone, clone.read() + line("c", 5, title="C"))
    kept = clone.read().splitlines(keepends=True)[1]
    clone.write(kept)
    assert {"conflict"} == codes(clone.json("doctor", "--fix", status=1))
    assert kept == clone.read()


def test_a_field_that_a_person_decides_stays_undecided(clone: Clone) -> None:
    """A conflict under the policy `fail` is merged but for that field, and not staged."""
    clone.write('[merge.plans]\ntitle = "fail"\n', ".taskstore/config.toml")
    clone.commit("policy")
    for name in "xy":
        clone.git("switch", "-qc", name, "main")
        clone.change("a", title=name)
    clone.git("switch", "-q", "main")
    clone.git("merge", "x", "y", status=1)
    found = clone.json("doctor", "--fix", status=1)
    assert [True] == [item["is_left"] for item in found["merged"]]
    assert {"conflict", "marker"} == codes(found)
    again = clone.read()
    clone.taskstore("doctor", "--fix", status=1)
    assert again == clone.read()


def test_without_a_store_it_exits_with_3(tmp_path: Path) -> None:
    """Where there is no store there is nothing to examine, and the way to one is told."""
    done = Clone(tmp_path).run("doctor")
    assert 3 == done.returncode
    assert "taskstore init" in done.stderr


def test_where_git_cannot_be_run_the_store_is_examined_all_the_same(clone: Clone) -> None:
    """Without git on the PATH that is told, and everything else is looked at."""
    clone.append("{broken\n")
    found = json.loads(clone.taskstore("doctor", "--json", status=1, PATH="/nowhere"))
    assert {"git", "line", "stale"} == codes(found)
    assert "git is not installed" in found["findings"][1]["message"]


def test_without_git_the_store_is_examined_all_the_same(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a repository that alone is told, and it is no fault."""
    shutil.copytree(clone.directory, tmp_path / "out/.taskstore")
    found = Clone(tmp_path / "out").json("doctor", "--fix")
    assert {"git"} == codes(found)
    with Store.open(tmp_path / "out/.taskstore") as store:
        assert 2 == store.count("plans")
