"""Golden files: expected output that a person has checked.

To look at new ones, run the tests with TASKSTORE_GOLDEN=write and read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.cli.programs import BAR, Run

GOLDEN = Path(__file__).parent / "golden"


def seen(run: Run, folder: Path) -> str:
    """A run as text, without what differs from one to the next."""
    parts = [run.stdout] + ([f"--- stderr\n{run.stderr}"] if run.stderr else [])
    text = BAR.sub("", "".join(parts))
    text = text.replace(str(folder.resolve()), "FOLDER")
    text = re.sub(r"\d+ days ago", "MANY days ago", text)
    text = re.sub(r'("cache_bytes"): \d+|\(cache: [^)]*\)', r"\1CACHE", text)
    text = text.replace("\x1b", "␛")
    return text + (f"--- exit status {run.status}\n" if run.status else "")


def compare(name: str, found: str) -> None:
    """Compare with the golden file of a name, or write it."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TASKSTORE_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8", newline="")
    assert path.read_bytes().decode() == found
