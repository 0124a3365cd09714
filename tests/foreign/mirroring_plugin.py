"""Mirror the models of another application while its own tests run.

`pytest -p mirroring_plugin --mirror package.models:Base --costs costs.json ...` runs them with us,
and without `--mirror` the same tests alone. Nothing of the application is changed: where its tests
make their tables with `create_all`, a store is opened on that engine, and each session on that
engine is attached. After each test, logs and tables are compared.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakSet

import attrs
import pytest
from sqlalchemy import Engine, MetaData, event
from sqlalchemy.orm import Session

from taskstore import Store, mirror_all


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("mirror")
    group.addoption("--mirror", metavar="MODULE:BASE", help="mirror all models of this base")
    group.addoption("--costs", metavar="FILE", help="write outcomes and processor times to it")


@attrs.define
class Costs:
    """The outcomes of tests, and the processor time that went into them.

    Attributes:
        outcomes: By test.
        tests: Seconds of processor time by test, without what follows.
        opening: Seconds in opening stores.
        verifying: Seconds in verifying and closing them.
        stores: How many were opened.
        lines: How many lines their logs had at the end.
    """

    outcomes: dict[str, str] = attrs.field(factory=dict)
    tests: dict[str, float] = attrs.field(factory=dict)
    opening: float = 0.0
    verifying: float = 0.0
    stores: int = 0
    lines: int = 0

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the time of a block to one of the sums."""
        begin = time.process_time()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.process_time() - begin)


COSTS = pytest.StashKey[Costs]()


class Mirroring:
    """The stores on the engines of the application under test.

    Attributes:
        faults: What differed since they were taken from here.
    """

    def __init__(self, base: Any, root: Path, costs: Costs) -> None:
        self.faults: list[str] = []
        self._base, self._root, self._costs = base, root, costs
        self._stores: dict[Engine, Store] = {}
        self._used: set[Engine] = set()
        self._sessions: WeakSet[Session] = WeakSet()
        self._patch = pytest.MonkeyPatch()

    def begin(self) -> None:
        """Watch for tables being made and sessions being opened."""
        metadata: MetaData = self._base.metadata
        create_all, start = metadata.create_all, Session.__init__

        def created(bind: Any, *args: Any, **options: Any) -> None:
            create_all(bind, *args, **options)
            if isinstance(bind, Engine) and bind.dialect.name in ("sqlite", "postgresql"):
                self._open(bind)

        def started(session: Session, *args: Any, **options: Any) -> None:
            start(session, *args, **options)
            if isinstance(session.bind, Engine) and session.bind in self._stores:
                self._stores[session.bind].attach(session)
                self._sessions.add(session)

        self._patch.setattr(metadata, "create_all", created)
        self._patch.setattr(Session, "__init__", started)

    def end(self) -> None:
        """Close the stores that the application has left open, and watch no more."""
        for engine in list(self._stores):
            self._close(engine)
        self._patch.undo()

    def check(self) -> None:
        """Compare logs and tables wherever something has happened since the last time.

        Where the application has a transaction open, that is left to the next time.
        """
        busy = {session.bind for session in self._sessions if _is_writing(session)}
        with self._costs.measured("verifying"):
            for engine in (self._used & self._stores.keys()) - busy:
                self._verify(self._stores[engine])
            self._used &= busy

    def _open(self, engine: Engine) -> None:
        if engine in self._stores:
            return
        self._costs.stores += 1
        directory = self._directory(engine)
        with self._costs.measured("opening"):
            mirrors = mirror_all(self._base)
            store = Store.open(directory, engine=engine, mirrors=mirrors, migrate=True)
        self._stores[engine] = store
        dispose = engine.dispose

        def disposed(close: bool = True) -> None:
            self._close(engine)
            dispose(close=close)

        # A file is often removed when its engine has been disposed of.
        self._patch.setattr(engine, "dispose", disposed)
        event.listen(engine, "begin", lambda connection: self._used.add(engine))

    def _directory(self, engine: Engine) -> Path:
        """Return where the store of an engine is: engines of one database share a directory."""
        is_shared = engine.url.database not in (None, "", ":memory:")
        for other, store in self._stores.items():
            if is_shared and _database_of(other) == _database_of(engine):
                return store.path
        directory = self._root / str(self._costs.stores) / ".taskstore"
        directory.parent.mkdir()
        return directory

    def _close(self, engine: Engine) -> None:
        store = self._stores.pop(engine, None)
        if store is None:
            return
        with self._costs.measured("verifying"):
            try:
                self._verify(store)
                logs = [log.read_bytes() for log in store.path.glob("*.jsonl")]
                self._costs.lines += sum(log.count(b"\n") for log in logs)
            finally:
                store.close()

    def _verify(self, store: Store) -> None:
        report = store.verify()
        self.faults += [f"{store.path}: {one}" for one in (*report.differences, *report.problems)]


def _database_of(engine: Engine) -> object:
    return engine.url.database, engine.url.query.get("options")


def _is_writing(session: Session) -> bool:
    if not session.in_transaction():
        return False
    if session.get_bind().dialect.name == "postgresql":
        # Even if it only reads, it may hold up who locks the tables.
        return True
    driver: Any = session.connection().connection.dbapi_connection
    try:
        return bool(driver.in_transaction)
    except sqlite3.ProgrammingError:
        # Its engine was disposed of under it, as tests do.
        return False


MIRRORING = pytest.StashKey[Mirroring]()


@pytest.fixture(scope="session", autouse=True)
def taskstore_mirroring(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Mirror the application while its tests run."""
    name = request.config.getoption("--mirror")
    if not name:
        yield
        return
    module, _, attribute = name.partition(":")
    base = getattr(import_module(module), attribute)
    mirroring = Mirroring(base, tmp_path_factory.mktemp("mirrored"), request.config.stash[COSTS])
    request.config.stash[MIRRORING] = mirroring
    mirroring.begin()
    yield
    mirroring.end()
    _fail(mirroring)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[COSTS] = Costs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure a test with its fixtures."""
    costs = item.config.stash[COSTS]
    begin, ours = time.process_time(), costs.opening + costs.verifying
    result = yield
    used = time.process_time() - begin
    costs.tests[_name(item)] = used - (costs.opening + costs.verifying - ours)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test if logs and tables differ after it."""
    mirroring = item.config.stash.get(MIRRORING, None)
    if mirroring is not None:
        # Before its fixtures end, which may take the database with them.
        mirroring.check()
    result = yield
    if mirroring is not None:
        _fail(mirroring)
    return result


def _fail(mirroring: Mirroring) -> None:
    faults, mirroring.faults = mirroring.faults, []
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how a test ended."""
    report = yield
    outcomes = item.config.stash[COSTS].outcomes
    if report.when == "call":
        outcomes[_name(item)] = report.outcome
    elif not report.passed:
        outcomes[_name(item)] = f"{report.outcome} in {report.when}"
    return report


def _name(item: pytest.Item) -> str:
    # The node ids of installed tests lack the file.
    return f"{item.path.name}::{item.nodeid.partition('::')[2]}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was noted."""
    if path := session.config.getoption("--costs"):
        costs = attrs.asdict(session.config.stash[COSTS])
        Path(path).write_text(json.dumps(costs, indent=1), encoding="utf-8")
