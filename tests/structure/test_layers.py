"""Imports go one way, down the layers."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from taskstore._cache.schema.models import build_models
from tests.structure.modules import Module, imports, parse

# Each layer with those it may import besides itself. The log knows nothing of SQL, the cache
# nothing of locks; they meet in the store. What is below `_mirror` knows it by protocols only.
PURE = {"errors", "_format", "_text"}
BELOW_CACHE = PURE | {"_evolution", "_records", "_query"}
CACHE = BELOW_CACHE | {"_cache", "models"}
STORE = CACHE | {"_log", "_store"}
UNIT = STORE | {"_unit"}
SYNC = UNIT | {"_sync"}
MIRROR = SYNC | {"_mirror"}
POSTGRES = MIRROR | {"_postgres"}
API = POSTGRES | {"_api"}
LAYERS: dict[str, set[str]] = {
    "_text": set(),
    "errors": {"_text"},
    "_format": {"errors", "_text"},
    "_evolution": PURE,
    "_records": PURE | {"_evolution"},
    "_query": PURE | {"_records", "_evolution"},
    "_log": PURE | {"_evolution"},
    "_merge": PURE | {"_evolution"},
    "_diff": PURE | {"_merge", "_evolution"},
    "_git": PURE | {"_log", "_evolution"},
    "_cache": BELOW_CACHE,
    "models": CACHE,
    "migrations": API,
    "_store": STORE,
    "_unit": UNIT,
    "_sync": SYNC,
    "_mirror": MIRROR,
    "_postgres": POSTGRES | {"_merge"},
    "_api": API | {"_git", "_diff", "_merge", "_watch"},
    "_aio": API | {"_watch"},
    "_doctor": API | {"_merge", "_git"},
    "_survey": API,
    "_exchange": API | {"_survey"},
    "_watch": PURE | {"_log", "_store", "_evolution"},
    "_browse": API | {"_diff", "_survey"},
    "cli": API
    | {"_merge", "_diff", "_git", "_doctor", "_survey", "_exchange", "_watch", "_browse"},
    "__main__": {"cli"},
    "testing": API | {"_aio"},
    "": API | {"_aio", "_watch"},
}

# Libraries that only some layers may know.
CONFINED = {
    "sqlalchemy": {
        "_query",
        "_cache",
        "models",
        "migrations",
        "_store",
        "_unit",
        "_sync",
        "_mirror",
        "_postgres",
        "_api",
        "_aio",
        "_browse",
        "cli",
    },
    "alembic": {"_api", "_cache", "migrations", "_sync", "cli"},
    "sqlite3": {"_cache", "_store", "_unit", "_sync", "_mirror", "_api", "_browse"},
    "filelock": {"_log"},
    "fcntl": {"_log"},
    "cattrs": {"_records"},
    "click": {"cli"},
    "anyio": {"cli"},
    "mcp": {"cli"},
    "mcp_types": {"cli"},
    "datasette": {"_browse"},
    "uvicorn": {"_browse"},
    "rich": {"cli"},
    "pytest": {"testing"},
}


def trespasses(module: Module) -> list[str]:
    """The imports of a module that go up, sideways or to the package root, as text."""
    allowed = LAYERS[module.layer] | {module.layer}
    found = []
    for item in imports(module):
        library, _, inside = item.target.partition(".")
        layer = inside.partition(".")[0]
        is_up = library == "taskstore" and (layer not in LAYERS or layer not in allowed)
        if is_up or module.layer not in CONFINED.get(library, {module.layer}):
            found.append(f"{module.name}:{item.line}: {item.target}")
    return found


def test_imports_go_down_the_layers_only(modules: list[Module]) -> None:
    """No module imports a layer above or beside its own, or the package root."""
    assert [] == [trespass for module in modules for trespass in trespasses(module)]


def test_modules_do_not_import_each_other_in_circles(modules: list[Module]) -> None:
    """The graph of imports between modules has no circle, inside a layer neither."""
    names = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        found = {item.target for item in imports(module)}
        # `from a import b` is the module a.b if there is one, else something in the module a.
        targets = {name if name in names else name.rpartition(".")[0] for name in found}
        graph[module.name] = (targets & names) - {module.name}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def sql_outside(module: Module) -> list[str]:
    """The places of a module where SQL names a table of the cache, as text."""
    names = build_models().table_names
    sql = re.compile(rf"\b(?:FROM|INTO|UPDATE|JOIN|TABLE)\s+(?:{'|'.join(names)})\b")
    return [
        f"{module.name}:{node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and sql.search(node.value)
    ]


def test_sql_over_the_tables_of_the_cache_is_in_the_cache(modules: list[Module]) -> None:
    """No module elsewhere has SQL that names a table of the cache."""
    others = [module for module in modules if module.layer != "_cache"]
    assert [] == [place for module in others for place in sql_outside(module)]
    assert any(sql_outside(module) for module in modules)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("_log/append.py", "from taskstore import Store"),
        ("_log/append.py", "import taskstore"),
        (
            "_log/append.py",
            "from taskstore._cache.rows.rows import Rows",
        ),
        ("_log/append.py", "def f():\n    import sqlalchemy.orm"),
        ("_cache/rows/rows.py", "from taskstore._log import locks"),
        ("_cache/rows/rows.py", "from filelock import FileLock"),
        ("_format/lines.py", "from taskstore import _records"),
        ("errors.py", "from taskstore._format.names import check_id"),
    ],
)
def test_a_trespass_is_seen(path: str, text: str) -> None:
    """The check of the layers finds each way to import what is not below."""
    source = Path("src")
    assert 1 == len(trespasses(parse(text, source / "taskstore" / path, source)))
