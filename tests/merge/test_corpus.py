"""Real three-way merges of an issue tracker's file, through the real git."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskstore._format.instants import parse_instant
from tests.merge.repositories import new_repository

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "merges"
MERGES = sorted(path.name for path in CORPUS.glob("*")) or ["absent"]

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"{CORPUS} is not on this machine"),
]

Records = dict[str, dict[str, Any]]
NONE = object()


def replayed(text: str) -> Records:
    """The records of a file; every line must be one."""
    newest: Records = {}
    for line in text.splitlines():
        record = json.loads(line)
        old = newest.get(record["id"], record)
        if parse_instant(record.get("updated_at")) >= parse_instant(old.get("updated_at")):
            newest[record["id"]] = record
    return newest


@pytest.mark.parametrize("name", MERGES)
def test_a_real_merge_keeps_every_one_sided_change(name: str, tmp_path: Path) -> None:
    """Git merges without a conflict, and each field that one side changed has its value."""
    base, ours, theirs = (
        (CORPUS / name / f"{side}.jsonl").read_text(encoding="utf-8")
        for side in ("base", "ours", "theirs")
    )
    repository = new_repository(tmp_path / "source", base)
    repository.diverge(ours, theirs)
    repository.git("switch", "-q", "other")
    repository.git("switch", "-q", "main")
    clone = repository.clone(tmp_path / "clone")
    clone.git("merge", "-q", "origin/other")
    result = replayed(clone.read())
    chosen = compare(result, *map(replayed, (base, ours, theirs)))
    print(name, dict(sorted(chosen.items())))
    assert "" == clone.git("status", "--porcelain").stdout


def compare(result: Records, base: Records, ours: Records, theirs: Records) -> Counter[str]:
    """Check each change of one side; count what was taken where both changed a field."""
    chosen: Counter[str] = Counter()
    for id in base.keys() | ours.keys() | theirs.keys():
        sides = base.get(id), ours.get(id), theirs.get(id)
        if sides[1] is None or sides[2] is None:
            expected = sides[1] or sides[2]
            assert (None if expected == sides[0] else expected) == result.get(id)
            continue
        for field in set().union(*(record or {} for record in sides)):
            old, first, second = ((record or {}).get(field, NONE) for record in sides)
            value = result[id].get(field, NONE)
            if first in (old, second) or second == old:
                assert (second if first == old else first) == value, (id, field)
            else:
                taken = {True: "ours"}.get(value == first, "theirs" if value == second else "both")
                chosen[f"{field}: {taken}"] += 1
    return chosen
