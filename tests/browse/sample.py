"""A store with a history: projects, people and tasks, in five commits."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

_START = 1_767_225_600_000
_HOUR = 3_600_000
_PEOPLE = {
    "ada": ("Ada Lovelace", "ada@example.org"),
    "bo": ("Bo Lindqvist", "bo@example.org"),
}
_DESCRIPTION = (
    "Visitors cannot find the opening hours.\n\nPut them on the first page, and link to the map."
)

STEPS: list[tuple[str, str, dict[str, list[dict[str, Any]]]]] = [
    (
        "ada",
        "Plan the new site",
        {
            "people": [
                {"id": "ada", "name": "Ada Lovelace", "role": "maintainer"},
                {"id": "bo", "name": "Bo Lindqvist", "role": "designer"},
            ],
            "projects": [{"id": "site", "title": "The new site", "lead": "ada"}],
            "tasks": [
                {
                    "id": "task-1",
                    "title": "Show the opening hours",
                    "status": "open",
                    "priority": 2,
                    "project": "site",
                    "description": _DESCRIPTION,
                },
                {
                    "id": "task-2",
                    "title": "Choose the colours",
                    "status": "open",
                    "priority": 3,
                    "project": "site",
                },
            ],
        },
    ),
    (
        "bo",
        "Take the colours, and split the first page",
        {
            "tasks": [
                {
                    "id": "task-2",
                    "title": "Choose the colours",
                    "status": "doing",
                    "priority": 3,
                    "project": "site",
                    "assignee": "bo",
                },
                {
                    "id": "task-3",
                    "title": "Draw the first page",
                    "status": "open",
                    "priority": 1,
                    "project": "site",
                    "blocks": ["task-1"],
                },
            ]
        },
    ),
    (
        "ada",
        "The hours are urgent",
        {
            "tasks": [
                {
                    "id": "task-1",
                    "title": "Show the opening hours",
                    "status": "open",
                    "priority": 1,
                    "project": "site",
                    "assignee": "ada",
                    "description": f"{_DESCRIPTION}\nAlso on holidays.",
                },
            ]
        },
    ),
    (
        "bo",
        "Finish the colours, drop the drawing",
        {
            "tasks": [
                {
                    "id": "task-2",
                    "title": "Choose the colours",
                    "status": "done",
                    "priority": 3,
                    "project": "site",
                    "assignee": "bo",
                },
                {"id": "task-3", "deleted": True},
            ]
        },
    ),
    (
        "ada",
        "",
        {
            "tasks": [
                {
                    "id": "task-1",
                    "title": "Show the opening hours",
                    "status": "doing",
                    "priority": 1,
                    "project": "site",
                    "assignee": "ada",
                    "description": f"{_DESCRIPTION}\nAlso on holidays.",
                },
            ]
        },
    ),
]
"""The author, change and message of each commit. A change without a message is not committed."""


def git(folder: Path, *call: str, person: str = "ada", hour: int = 0) -> str:
    """What git prints, run by a person at an hour."""
    name, mail = _PEOPLE[person]
    variables = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        variables[f"GIT_{role}_NAME"] = name
        variables[f"GIT_{role}_EMAIL"] = mail
        variables[f"GIT_{role}_DATE"] = f"{(_START + hour * _HOUR) // 1000} +0000"
    done = subprocess.run(
        ["git", *call],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.strip()


def append(directory: Path, collection: str, *records: dict[str, Any]) -> None:
    """Add lines to a log, as a `git pull` does."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / f"{collection}.jsonl", "a", encoding="utf-8") as log:
        log.writelines(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)


def make(folder: Path) -> Path:
    """Make the store in a folder, and return its directory."""
    folder.mkdir(exist_ok=True)
    directory = folder / ".taskstore"
    git(folder, "init", "-q", "-b", "main")
    for number, (person, message, logs) in enumerate(STEPS):
        hour = number * 5
        for collection, records in logs.items():
            stamped = [{**record, "updated_at": _START + hour * _HOUR} for record in records]
            append(directory, collection, *stamped)
        if message:
            git(folder, "add", "-A", person=person, hour=hour)
            git(folder, "commit", "-qm", message, person=person, hour=hour)
    return directory
