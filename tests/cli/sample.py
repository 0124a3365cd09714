"""A small store with whatever is awkward to print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLANS: list[dict[str, Any]] = [
    {
        "id": "plan-001",
        "title": "Ship it",
        "status": "open",
        "priority": 5,
        "labels": ["release", "docs"],
        "updated_at": 1_700_000_000_000,
    },
    {
        "id": "plan-002",
        "title": "Write the docs 📚",
        "status": "open",
        "priority": 9,
        "done": False,
        "assignee": "ada",
        "updated_at": 1_700_000_100_000,
    },
    {
        "id": "plan-003",
        "title": "Sweep\tthe\nfloor \x1b[31mred",
        "status": "done",
        "priority": -1,
        "note": "x" * 120,
        "assignee": None,
        "updated_at": 1_700_000_200_000,
    },
    {"id": "plan-004", "title": "Forget", "status": "open", "priority": 1, "updated_at": 1},
    {"id": "plan-004", "updated_at": 1_700_000_300_000, "deleted": True},
    {
        "id": "plan-001",
        "title": "Ship it",
        "status": "open",
        "priority": 7,
        "labels": ["release"],
        "updated_at": 1_700_000_400_000,
    },
]


def make(folder: Path) -> Path:
    """Make the store in a folder, and return its directory."""
    directory = folder / ".taskstore"
    directory.mkdir()
    lines = [json.dumps(plan, ensure_ascii=False) for plan in PLANS]
    (directory / "plans.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (directory / "notes.jsonl").write_text(
        '{"id":"n1","text":"記録","updated_at":"2024-01-02T03:04:05Z"}\nnot JSON\n',
        encoding="utf-8",
    )
    return directory
