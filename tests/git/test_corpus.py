"""Real merges of an issue tracker's file, through what `taskstore git install` configures."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.git.clones import Clone
from tests.merge.repositories import LOG
from tests.merge.test_corpus import CORPUS, MERGES, compare, replayed

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"{CORPUS} is not on this machine")


@pytest.mark.parametrize("name", MERGES)
def test_a_real_merge_in_a_fresh_clone(name: str, tmp_path: Path) -> None:
    """No conflict, no marker, every line parses, and each one-sided change has its value."""
    base, ours, theirs = (
        (CORPUS / name / f"{side}.jsonl").read_text(encoding="utf-8")
        for side in ("base", "ours", "theirs")
    )
    source = Clone(tmp_path / "source")
    source.path.mkdir()
    source.git("init", "-q", "-b", "main")
    source.write(base)
    source.taskstore("init")
    source.commit("base")
    source.diverge(ours, theirs)
    clone = source.clone(tmp_path / "clone")
    clone.git("merge", "-q", "origin/other")
    assert "" == clone.git("status", "--porcelain").stdout
    merged = clone.read()
    assert [] == [line for line in merged.splitlines() if not isinstance(json.loads(line), dict)]
    chosen: Counter[str] = compare(replayed(merged), *map(replayed, (base, ours, theirs)))
    print(name, "changed on both sides:", dict(sorted(chosen.items())) or "nothing")
    with clone.store() as store:
        report = store.verify()
        assert (True, ()) == (report.ok, report.problems)
        living = {id for id, row in replayed(merged).items() if row.get("deleted") is not True}
        assert living == {row["id"] for row in store.list("plans")}
    assert LOG == clone.git("ls-files", "*.jsonl").stdout.strip()
