"""`taskstore merge` as a program: what it exits with, prints, leaves and loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.merge.repositories import line
from tests.warm import warm

pytestmark = pytest.mark.public

# Processor time of a whole run, the best of a few; other programs hardly change it.
ALLOWED = 3

LOADED = """
import json, sys
from taskstore.cli import main
main(["merge", *sys.argv[1:]], standalone_mode=False)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Base, ours and theirs, in a folder without a repository."""
    for name, text in (
        ("base", line("a", 1, x=1, y=1)),
        ("ours", line("a", 2, x=2, y=1)),
        ("theirs", line("a", 3, x=1, y=3)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [str(tmp_path / name) for name in ("base", "ours", "theirs")]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        warm(*arguments),
        cwd=cwd,
        capture_output=True,
        check=False,
        text=True,
    )


def test_the_merge_is_written_into_ours(files: list[str]) -> None:
    """A merge exits 0, prints nothing, and OURS has the result, with its mode, and nothing else."""
    ours = Path(files[1])
    ours.chmod(0o640)
    done = run("merge", *files, ".taskstore/plans.jsonl")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert line("a", 3, x=2, y=3) == ours.read_text(encoding="utf-8")
    assert 0o640 == ours.stat().st_mode & 0o777
    assert {"base", "ours", "theirs"} == {path.name for path in ours.parent.iterdir()}


@pytest.mark.parametrize("is_log", [False, True], ids=["one line per id", "log"])
def test_a_line_that_no_reader_would_take_is_not_written(files: list[str], is_log: bool) -> None:
    """Two long edits of a record that together exceed the length of a line: exit 2, as it was."""
    half = "x" * (9 * 2**20)
    base = line("a", 1, x="", y="") * (2 if is_log else 1)
    sides = [line("a", 2, x=half, y=""), line("a", 3, x="", y=half)]
    for path, text in zip(files, ["", *sides], strict=True):
        Path(path).write_text(base * (is_log or not text) + text, encoding="utf-8")
    before = Path(files[1]).read_bytes()
    done = run("merge", *files, ".taskstore/plans.jsonl")
    assert (2, before) == (done.returncode, Path(files[1]).read_bytes())
    assert "a: its line would be longer than 16 MiB" in done.stderr


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
def test_a_wrong_number_of_arguments_exits_2(files: list[str], count: int) -> None:
    """Fewer than three or more than four arguments exit 2 with OURS untouched."""
    before = Path(files[1]).read_bytes()
    done = run("merge", *(files + files)[:count])
    assert 2 == done.returncode
    assert "Usage: " in done.stderr
    assert before == Path(files[1]).read_bytes()


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_file_that_cannot_be_read_exits_2(files: list[str], missing: int) -> None:
    """A version that is not there exits 2, is named, and nothing is written."""
    Path(files[missing]).unlink()
    before = sorted(Path(files[0]).parent.iterdir())
    done = run("merge", *files)
    assert 2 == done.returncode
    assert files[missing] in done.stderr
    assert before == sorted(Path(files[0]).parent.iterdir())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_exits_2(files: list[str]) -> None:
    """Where OURS cannot be replaced the merge exits 2, and OURS is as it was."""
    folder = Path(files[0]).parent
    before = Path(files[1]).read_bytes()
    folder.chmod(0o500)
    try:
        assert 2 == run("merge", *files).returncode
    finally:
        folder.chmod(0o700)
    assert before == Path(files[1]).read_bytes()


def test_what_is_left_to_a_person_exits_1(files: list[str]) -> None:
    """Conflict markers in a version exit 1 with every line kept."""
    theirs = Path(files[2])
    theirs.write_text(f"<<<<<<< x\n{line('a', 3, x=3)}=======\n>>>>>>> y\n", encoding="utf-8")
    kept = {*Path(files[1]).read_text().splitlines(), *theirs.read_text().splitlines()}
    done = run("merge", *files)
    assert 1 == done.returncode
    assert kept <= set(Path(files[1]).read_text().splitlines())


def test_bad_settings_exit_2(files: list[str], tmp_path: Path) -> None:
    """A config.toml that is no TOML exits 2, is named, and OURS is untouched."""
    (tmp_path / ".taskstore").mkdir()
    (tmp_path / ".taskstore" / "config.toml").write_text("[merge", encoding="utf-8")
    before = Path(files[1]).read_bytes()
    done = run("merge", *files, ".taskstore/plans.jsonl", cwd=tmp_path)
    assert 2 == done.returncode
    assert ".taskstore/config.toml: not TOML" in done.stderr
    assert before == Path(files[1]).read_bytes()


def test_settings_are_found_from_a_folder_below(files: list[str], tmp_path: Path) -> None:
    """The path is looked up from the repository's root too, when called from a folder in it."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".taskstore").mkdir()
    (tmp_path / ".taskstore" / "config.toml").write_text(
        '[merge.plans]\nx = "min"\n', encoding="utf-8"
    )
    (tmp_path / "below").mkdir()
    Path(files[2]).write_text(line("a", 9, x=7), encoding="utf-8")
    done = run("merge", *files, ".taskstore/plans.jsonl", cwd=tmp_path / "below")
    assert 0 == done.returncode
    assert 2 == json.loads(Path(files[1]).read_text())["x"]


def test_a_reader_that_is_gone_changes_nothing(files: list[str]) -> None:
    """A merge whose report nobody can read still exits as it merged."""
    Path(files[2]).write_text(line("a", 3, x=3), encoding="utf-8")
    read, write = os.pipe()
    os.close(read)
    call = [sys.executable, "-P", "-m", "taskstore", "merge", *files]
    try:
        done = subprocess.run(call, stderr=write, check=False)
    finally:
        os.close(write)
    assert 0 == done.returncode
    assert 3 == json.loads(Path(files[1]).read_text())["x"]


def test_the_driver_loads_only_what_it_needs(files: list[str]) -> None:
    """A merge imports neither SQLAlchemy nor Alembic, cattrs, rich or sqlite3."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *files], capture_output=True, check=True, text=True
    )
    heavy = {"alembic", "cattrs", "filelock", "rich", "sqlalchemy", "sqlite3"}
    assert set() == heavy & set(json.loads(done.stdout))


@pytest.mark.skipif(os.name == "nt", reason="processor time of children")
def test_the_driver_is_quick(files: list[str]) -> None:
    """A small merge takes at most three times what importing its libraries takes, start included.

    The smallest of several runs counts, and both are taken in turn: other programs of the machine
    slow the one like the other.
    """
    import resource

    def seconds(*call: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *call], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)

    pairs = [
        (
            seconds("-c", "import attrs, click, msgspec"),
            seconds("-P", "-m", "taskstore", "merge", *files),
        )
        for _ in range(7)
    ]
    floor, merge = (min(times) for times in zip(*pairs, strict=True))
    assert merge <= ALLOWED * floor


def test_the_version_is_shown() -> None:
    """`taskstore --version` prints the version that is installed."""
    from importlib.metadata import version

    assert f"taskstore {version('taskstore')}\n" == run("--version").stdout


def test_an_unknown_command_exits_2() -> None:
    """A command that does not exist is refused, and help lists those that do."""
    done = run("marge")
    assert 2 == done.returncode
    assert "No such command 'marge'" in done.stderr
    assert "merge" in run("--help").stdout
