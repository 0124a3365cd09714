"""What a terminal has no room for is shown in a pager."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.programs import BAR, Run, on_pipe, on_terminal

KEEP = "import pathlib, sys; pathlib.Path('paged').write_bytes(sys.stdin.buffer.read())"
KEEPER = shlex.join([sys.executable, "-c", KEEP])


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """A folder with a store whose records fill more than a screen."""
    directory = tmp_path / ".taskstore"
    directory.mkdir()
    lines = [json.dumps({"id": f"p{n:03}", "title": f"\x1b{n} é"}) for n in range(100)]
    (directory / "plans.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return tmp_path


def list_plans(folder: Path, *more: str, **variables: str) -> Run:
    """List the records on a terminal with a pager that keeps what it gets."""
    return on_terminal("list", "plans", *more, cwd=folder, **{"PAGER": KEEPER, **variables})


@pytest.mark.parametrize("format", ["table", "tsv", "csv", "json", "nl"])
def test_long_output_is_paged(long: Path, format: str) -> None:
    """In each format the pager gets what fills more than the screen, escaped as ever."""
    done = list_plans(long, "--format", format)
    text = (long / "paged").read_text(encoding="utf-8")
    assert 0 == done.status
    assert "p099" in text
    assert "p000" in text
    assert "\x1b0" not in text
    assert "p000" not in done.stdout


def test_notes_follow_the_pager(long: Path) -> None:
    """What is said on stderr is said when the pager has ended."""
    assert "100 records\n" == BAR.sub("", list_plans(long).stdout)


def test_short_output_is_not_paged(long: Path) -> None:
    """What the terminal has room for is written to it."""
    assert "p005" in list_plans(long, "--limit", "20", "--sort", "id").stdout
    assert not (long / "paged").exists()


@pytest.mark.parametrize(
    "variables",
    [{"PAGER": ""}, {"PAGER": "cat"}, {"PAGER": "no-such-pager"}, {"TASKSTORE_PAGER": ""}],
    ids=str,
)
def test_without_a_pager_all_is_written(long: Path, variables: dict[str, str]) -> None:
    """Without a pager, or with a missing one, the terminal gets everything."""
    done = list_plans(long, **variables)
    assert "p000" in done.stdout
    assert "p099" in done.stdout
    assert not (long / "paged").exists()


def test_a_pager_that_is_left_early_ends_the_output(long: Path) -> None:
    """Leaving the pager is no error."""
    assert 0 == list_plans(long, PAGER="true").status


def test_a_pipe_is_not_paged(long: Path) -> None:
    """In a pipe nothing is paged."""
    assert "p000" in on_pipe("list", "plans", cwd=long, PAGER=KEEPER).stdout
    assert not (long / "paged").exists()
