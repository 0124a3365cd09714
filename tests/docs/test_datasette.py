"""The cache in Datasette, with the metadata of the documentation."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from taskstore import Store
from taskstore.models import DEFAULT
from tests.docs.pages import ROOT

METADATA = ROOT / "docs/examples/datasette.json"
DATABASE: dict[str, Any] = json.loads(METADATA.read_text(encoding="utf-8"))["databases"][
    "taskstore"
]


@pytest.fixture
def cache(directory: Path) -> Path:
    """The cache of a store with the documentation's example log."""
    directory.mkdir()
    shutil.copy(ROOT / "docs/examples/issues.jsonl", directory)
    with Store.open(directory) as store:
        assert store.count("issues")
    return directory / "taskstore.db"


def test_the_metadata_describes_the_tables_that_there_are() -> None:
    """Each table has a description or is hidden, and every column that is named exists."""
    tables = {table.name: table for table in DEFAULT.metadata.tables.values()}
    assert {*DEFAULT.table_names, DEFAULT.version_table} == set(DATABASE["tables"])
    for name, facts in DATABASE["tables"].items():
        assert facts.get("description") or facts.get("hidden")
        used = {*facts.get("columns", ()), *facts.get("facets", ())}
        used |= {facts[key] for key in ("sort_desc", "label_column") if key in facts}
        assert set() == used - set(tables[name].columns.keys() if name in tables else ())


@pytest.mark.parametrize("name", DATABASE["queries"])
def test_the_queries_find_something(name: str, cache: Path) -> None:
    """Each query of the metadata runs on a cache as it is, and has rows."""
    query = DATABASE["queries"][name]
    connection = sqlite3.connect(f"file:{cache}?mode=ro", uri=True)
    try:
        rows = connection.execute(query["sql"], dict.fromkeys(query.get("params", ()), ""))
        assert rows.fetchall()
    finally:
        connection.close()


@pytest.mark.skipif(find_spec("datasette") is None, reason="datasette is not installed")
@pytest.mark.parametrize("page", ["/taskstore", "/taskstore/records", "/taskstore/issues"])
def test_datasette_shows_the_cache(page: str, cache: Path) -> None:
    """Datasette opens the file with the metadata, and shows the page with what it has to say."""
    call = [sys.executable, "-m", "datasette", str(cache), "--metadata", str(METADATA)]
    done = subprocess.run(
        [*call, "--get", f"{page}?status=open"], capture_output=True, check=False, text=True
    )
    assert 0 == done.returncode, done.stderr
    assert {
        "/taskstore": "Issues",
        "/taskstore/records": "The newest line of each live record",
        "/taskstore/issues": "Say what works on Windows",
    }[page] in done.stdout
