"""Commands on a store with many collections."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner

from taskstore._sync import freshness
from taskstore.cli import main


def looks(folder: Path, collections: int) -> int:
    """Return how often `collections` looks at logs, in a store with so many of them."""
    store = folder / f"{collections}" / ".taskstore"
    store.mkdir(parents=True)
    for number in range(collections):
        (store / f"c{number}.jsonl").write_text('{"id":"a","x":1,"updated_at":1}\n')
    run = CliRunner()
    call = ["collections", "--store", str(store)]
    first = run.invoke(main, call)
    with patch.object(freshness, "looks_fresh", wraps=freshness.looks_fresh) as seen:
        assert first.stdout == run.invoke(main, call).stdout
    assert collections + 1 == len(first.stdout.splitlines())
    return seen.call_count


def test_a_log_is_looked_at_as_often_in_a_store_with_many(tmp_path: Path) -> None:
    """The work of `collections` grows with the number of logs, and not with its square."""
    assert 0 < looks(tmp_path, 40) <= 4 * looks(tmp_path, 10)
