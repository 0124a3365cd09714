"""A small issue tracker, on the project's own issue log.

It lays the log in a store, lists what is open by priority, changes one issue, and shows the line
that the change appended, the query behind the list, and what a second process sees. It works in a
temporary directory and takes no arguments.
"""

import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import attrs

from taskstore import Store, evolve, indexed, record, where

LOG = Path(__file__).with_name("issues.jsonl")


@attrs.frozen
class Comment:
    """A remark on an issue."""

    at: datetime
    text: str


@record("issues")
class Issue:
    """An issue or an idea; priority 0 is the most urgent."""

    id: str
    title: str
    status: str = indexed(default="open")
    priority: int = indexed(default=2)
    labels: list[str] = attrs.field(factory=list)
    body: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    comments: list[Comment] = attrs.field(factory=list)


def main() -> None:
    """Run the whole story once."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, ".taskstore")
        directory.mkdir()
        log = Path(shutil.copy(LOG, directory))
        with Store.open(directory, types=[Issue]) as store:
            print(f"{store.count(Issue)} issues from {LOG.name}. Open, the most urgent first:\n")
            list_open(store)
            change_one(store, log)
            print("\nThe query behind the list:\n")
            print(store.select(Issue, where(Issue.status) == "open"))
            print("\nA second process sees:\n", flush=True)
            subprocess.run([sys.executable, __file__, str(directory)], check=True)


def list_open(store: Store) -> None:
    """Print one row for each open issue."""
    for issue in store.list(Issue, where(Issue.status) == "open", order_by="priority"):
        print(f"  {issue.priority}  {issue.id:<22} {issue.title}")


def change_one(store: Store, log: Path) -> None:
    """Close the most urgent issue with a comment, and print the line that this appends."""
    issue = store.first(Issue, where(Issue.status) == "open", order_by="priority")
    if issue is None:
        return
    size = log.stat().st_size
    comment = Comment(datetime.now(UTC), "Done.")
    store.update(evolve(issue, status="closed", comments=[*issue.comments, comment]))
    print(f"\nClosed {issue.id}. Appended to {log.name}:\n")
    print(log.read_bytes()[size:].decode(), end="")


def look(directory: str) -> None:
    """Open the store and print the newest issue, as a second process does."""
    with Store.open(directory, types=[Issue]) as store:
        newest = store.first(Issue)
        open_ones = store.count(Issue, where(Issue.status) == "open")
        if newest is not None:
            print(f"  {newest.id} is {newest.status}: {newest.comments[-1].text}")
        print(f"  {open_ones} issues are open")


if __name__ == "__main__":
    look(sys.argv[1]) if len(sys.argv) > 1 else main()
