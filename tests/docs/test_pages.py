"""Every page that has something to type prints what it says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import (
    PAGES,
    ROOT,
    Reader,
    Shell,
    blocks,
    programs_of_this_environment,
    same,
)

pytestmark = pytest.mark.public

TYPED = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_page_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page, Python and shell, run in their order in an empty folder."""
    if "git " in page.read_text(encoding="utf-8") and shutil.which("git") is None:
        pytest.skip("git is not installed")
    place = tmp_path / "home"
    place.mkdir()
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    with Shell(place, programs_of_this_environment(tmp_path / "bin")) as shell:
        Reader(shell, place, module=module).read(page)


@pytest.mark.parametrize(
    ("expected", "actual", "is_same"),
    [
        ("one\n...\ntwo\n", "one\nand\nmore\ntwo\n", True),
        ("one\n...\ntwo\n", "one\ntwo\n", True),
        ("...\ntwo\n", "one\nthree\n", False),
        ("at 2026-03-01T09:12:44.120Z\n", "at 2024-01-02T03:04:05+01:00\n", True),
        ('{"updated_at":1700000000000}\n', '{"updated_at":1795369860359}\n', True),
        ("commit 0d3c2f1\n", "commit 83db48f\n", True),
        ("made /home/ada/shop\n", "made /tmp/x/shop\n", True),
        ("one\n", "one\ntwo\n", False),
        ("", "one\n", False),
    ],
)
def test_only_what_differs_from_run_to_run_may_differ(
    expected: str, actual: str, is_same: bool
) -> None:
    """Times, commits, the folder and lines that are left out are equal, and nothing else is."""
    assert is_same == same(expected, actual, Path("/tmp/x"))
