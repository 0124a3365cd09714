"""The documentation's examples, run as a reader would run them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

pytestmark = pytest.mark.public

EXAMPLES = ROOT / "docs" / "examples"


def test_the_readme_example_is_short() -> None:
    """The README has one example, of ten lines and the blank ones between."""
    (code,) = [block.text for block in blocks(ROOT / "README.md") if block.kind == "python"]
    assert 10 >= len([line for line in code.splitlines() if line.strip()])


def test_the_issue_tracker_tells_its_story(tmp_path: Path) -> None:
    """The main job lists, changes, shows line and query, and a second process sees the change."""
    script = EXAMPLES / "issue_tracker.py"
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
    )
    assert (0, "") == (run.returncode, run.stderr)
    listed, _, rest = run.stdout.partition("\nClosed ")
    assert "25 issues from issues.jsonl" in listed
    rows = [line.split()[:2] for line in listed.splitlines() if line.startswith("  ")]
    assert sorted(rows, key=lambda row: row[0]) == rows

    changed = json.loads(next(line for line in rest.splitlines() if line.startswith("{")))
    assert ("closed", rows[0][1]) == (changed["status"], changed["id"])
    assert "SELECT" in rest
    assert f"{changed['id']} is closed: Done." in rest
    assert f"{len(rows) - 1} issues are open" in rest
    assert [] == list(tmp_path.iterdir())


def test_the_example_log_is_in_the_documented_format() -> None:
    """Each line of the example log is a compact JSON object with a time, none of them double."""
    lines = (EXAMPLES / "issues.jsonl").read_text(encoding="utf-8").splitlines()
    parsed = [json.loads(line) for line in lines]
    assert lines == [json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in parsed]
    assert 1 == max(Counter((line["id"], line["updated_at"]) for line in parsed).values())
