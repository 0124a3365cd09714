"""Imports go one way, down the layers."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.structure.modules import Module, imports, parse

# Each layer with those it may import besides itself. The log knows nothing of SQL, the cache
# nothing of locks; they meet in the store.
PURE = {"errors", "_format"}
BELOW_CACHE = PURE | {"_records", "_query"}
CACHE = BELOW_CACHE | {"_cache", "models", "migrations"}
MIRROR = CACHE | {"_mirror"}
STORE = MIRROR | {"_log", "_store"}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "_format": {"errors"},
    "_records": PURE,
    "_query": PURE | {"_records"},
    "_log": PURE,
    "_merge": PURE,
    "_diff": PURE | {"_merge"},
    "_git": PURE | {"_log"},
    "_cache": BELOW_CACHE,
    "models": CACHE,
    "migrations": CACHE,
    "_mirror": CACHE,
    "_store": STORE,
    "_aio": STORE,
    "_doctor": STORE | {"_merge", "_git"},
    "_survey": STORE,
    "_exchange": STORE | {"_survey"},
    "_watch": PURE | {"_log", "_store"},
    "cli": STORE | {"_merge", "_diff", "_git", "_doctor", "_survey", "_exchange", "_watch"},
    "__main__": {"cli"},
    "testing": STORE | {"_aio"},
    "": STORE | {"_aio"},
}

# Libraries that only some layers may know.
CONFINED = {
    "sqlalchemy": {
        "_query",
        "_cache",
        "models",
        "migrations",
        "_mirror",
        "_store",
        "_aio",
        "cli",
    },
    "alembic": {"_cache", "migrations", "_store", "cli"},
    "sqlite3": {"_cache", "_mirror", "_store"},
    "filelock": {"_log"},
    "fcntl": {"_log"},
    "cattrs": {"_records"},
    "click": {"cli"},
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


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("_log/append.py", "from taskstore import Store"),
        ("_log/append.py", "import taskstore"),
        ("_log/append.py", "from taskstore._cache.rows import Rows"),
        ("_log/append.py", "def f():\n    import sqlalchemy.orm"),
        ("_cache/rows.py", "from taskstore._log import locks"),
        ("_cache/rows.py", "from filelock import FileLock"),
        ("_format/lines.py", "from taskstore import _records"),
        ("errors.py", "from taskstore._format.names import check_id"),
    ],
)
def test_a_trespass_is_seen(path: str, text: str) -> None:
    """The check of the layers finds each way to import what is not below."""
    source = Path("src")
    assert 1 == len(trespasses(parse(text, source / "taskstore" / path, source)))
