"""Clones whose settings were made to stop whoever uses the store in them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskstore import Store, StoreAccessError
from tests.git.clones import Clone, new_clone

pytestmark = pytest.mark.usefixtures("cold_hooks")

PLENTY = 5.0
"""More than a command may take over hostile settings, in seconds."""


def many(name: str, count: int) -> str:
    return ",".join(f'"{name}{n}"' for n in range(count))


TEXTS = {
    "an integer of 5,000 digits": "x = " + "1" * 5_000,
    "an invalid date": "d = 2024-02-31",
    "100,000 indexed fields": f"[indexes]\nplans = [{many('', 100_000)}]",
    "20,000 collections": "[indexes]\n" + "".join(f'c{n} = ["a"]\n' for n in range(20_000)),
    "a field that is a huge number": "[indexes]\nplans = [0x" + "f" * 100_000 + "]",
    "a policy that is a huge number": "[merge.plans]\ntitle = 0x" + "f" * 100_000,
    "deep nesting": "x = " + "[" * 100_000,
    "a key of many parts": ".".join("a" * 400_000) + " = 1",
    "tables that are numbers": "indexes = 1\nmerge = 2\ntypes = 3",
    "a program": 'types = ["test.__main__"]',
    "more than 1 MiB": "#" * (1024 * 1024 + 1),
}


def links_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def links_outside(path: Path) -> None:
    target = path.parent.parent.parent / "precious.toml"
    target.write_text("[merge.plans]\ntitle = 'min'\n")
    path.symlink_to(os.path.relpath(target, path.parent))


def is_a_directory(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def cloned(source: Clone, tmp_path: Path) -> Clone:
    """What a person gets who clones all that is in the source's work tree."""
    source.git("add", "-A", "-f", ".taskstore")
    source.git("commit", "-qm", "hostile", "--no-verify")
    return source.clone(tmp_path / "clone", driver=False)


def check_usable(clone: Clone, name: str) -> None:
    """Records are served and written, and every report names the file."""
    began = time.monotonic()
    with Store.open(clone.directory) as store:
        assert "A" == store.get_one("plans", "a")["title"]
        store.create({"id": "new"}, collection="plans")
        assert store.is_stale() is False
        report = store.verify()
        assert report.ok
        for problems in (report.problems, store.sync().problems):
            assert problems
            assert {str(clone.directory / name)} == {problem.path for problem in problems}
    assert time.monotonic() - began < PLENTY
    done = clone.run("list", "plans", "--columns", "id")
    assert ["a", "b", "new"] == sorted(done.stdout.split()[1:])
    assert f"/{name}: " in done.stderr
    assert "Traceback" not in done.stderr
    done = clone.run("doctor")
    assert 1 == done.returncode, done.stdout + done.stderr
    assert f"/{name}: " in done.stdout


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_broken_settings_are_a_problem_and_no_more(tmp_path: Path, text: str) -> None:
    """Over settings that cannot be used, records are read and written, and the file is named."""
    source = new_clone(tmp_path / "source", install=False)
    source.write(text, ".taskstore/config.toml")
    check_usable(cloned(source, tmp_path), "config.toml")


def test_settings_in_another_encoding_are_a_problem_and_no_more(tmp_path: Path) -> None:
    """Settings that are not UTF-8 are reported, and stop nobody."""
    source = new_clone(tmp_path / "source", install=False)
    source.write("# caf\u00e9".encode("latin-1"), ".taskstore/config.toml")
    check_usable(cloned(source, tmp_path), "config.toml")


@pytest.mark.parametrize("make", [links_to_zero, links_outside, is_a_directory])
@pytest.mark.parametrize("name", ["config.toml", ".gitignore"])
def test_a_small_file_that_is_none_is_a_problem_and_no_more(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    """A link or a directory in the place of a small file is reported, and stops nobody."""
    source = new_clone(tmp_path / "source", install=False)
    path = source.directory / name
    path.unlink(missing_ok=True)
    make(path)
    check_usable(cloned(source, tmp_path), name)
    precious = tmp_path / "precious.toml"
    if precious.exists():
        assert "[merge.plans]\ntitle = 'min'\n" == precious.read_text()


@pytest.mark.parametrize("name", ["config.toml", ".gitignore"])
def test_a_pipe_for_a_small_file_is_a_problem_and_no_more(tmp_path: Path, name: str) -> None:
    """A pipe in the place of a small file is reported, and makes nobody wait."""
    clone = cloned(new_clone(tmp_path / "source", install=False), tmp_path)
    (clone.directory / name).unlink(missing_ok=True)
    os.mkfifo(clone.directory / name)
    check_usable(clone, name)


@pytest.mark.parametrize("make", [links_to_zero, links_outside, is_a_directory, os.mkfifo])
def test_a_version_that_is_no_file_is_refused_with_the_remedy(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A store whose version cannot be read is not used, and the error says what to do."""
    clone = cloned(new_clone(tmp_path / "source", install=False), tmp_path)
    path = clone.directory / ".version"
    path.unlink()
    make(path)
    remedy = "restore it, or write 1 to a file of that name"
    with pytest.raises(StoreAccessError, match=remedy) as caught:
        Store.open(clone.directory)
    assert str(path) == caught.value.path
    for command in ("list plans", "status", "doctor"):
        done = clone.run(*command.split())
        assert 3 == done.returncode
        assert remedy in done.stderr


def test_a_merge_is_refused_over_settings_that_cannot_be_read(tmp_path: Path) -> None:
    """The merge driver says why it cannot use the settings, and leaves the log as it was."""
    clone = cloned(new_clone(tmp_path / "source", install=False), tmp_path)
    os.mkfifo(clone.directory / "config.toml")
    for name in ("base", "ours", "theirs"):
        clone.write(f'{{"id":"a","updated_at":1,"x":"{name}"}}\n', name)
    done = clone.run("merge", "base", "ours", "theirs", ".taskstore/plans.jsonl")
    assert 2 == done.returncode
    assert "config.toml: it is not a regular file" in done.stderr
    assert '"ours"' in clone.read("ours")
