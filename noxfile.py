"""The project's checks: `nox` runs them all, `nox -s tests` only one kind.

Interpreters that the classifiers name and the machine lacks are skipped.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
SQLALCHEMY_LINES = [
    nox.param("2.0", id="sqlalchemy-2.0", tags=["ci"]),
    nox.param("2.1", id="sqlalchemy-2.1"),
]


def group(name: str) -> list[str]:
    """The requirements of one dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PROJECT, name))


def lowest() -> list[str]:
    """Each run-time dependency at the lowest version that pyproject.toml admits."""
    requirements = map(Requirement, PROJECT["project"]["dependencies"])
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in requirements
        for bound in requirement.specifier
        if bound.operator == ">="
    ]


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
    """The public tests against what is published, away from the checkout.

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
        session.install(f"{built}[async]", *lowest())
    for name in ("README.md", "docs", "pyproject.toml", "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, away / "work" / name)
    session.chdir(away / "work")
    session.run("pytest", "-m", "public", "-p", "no:cacheprovider", *session.posargs)


def check_contents(session: nox.Session, wheel: Path) -> None:
    """Stop unless the wheel holds every migration, and the marker of a typed package."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    sources = [ROOT / "migrations" / "env.py", *(ROOT / "migrations" / "versions").glob("*.py")]
    wanted = {
        f"taskstore/_migrations/{path.relative_to(ROOT / 'migrations').as_posix()}"
        for path in sources
    }
    if missing := (wanted | {"taskstore/py.typed"}) - packed:
        session.error(f"{wheel.name} lacks {', '.join(sorted(missing))}")


@nox.session(python=PYTHONS)
@nox.parametrize("line", SQLALCHEMY_LINES)
def tests(session: nox.Session, line: str) -> None:
    """All tests against an installed (not an editable) package, on one line of SQLAlchemy."""
    session.install(*group("test"), f"sqlalchemy=={line}.*", ".[async]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmark, whose table and curves go into the documentation; takes a quarter of an hour.

    Arguments replace that: `nox -s bench -- --rows create get --sizes 10000`.
    """
    session.install(*group("test"), ".")
    options = session.posargs or ["--docs", "docs/explanation", "--json", "bench.json"]
    session.run("python", "-m", "tests.bench", *options)


@nox.session
def crash(session: nox.Session) -> None:
    """The tests of crashes and of concurrent writers at their full size; takes long."""
    session.install(*group("test"), ".[async]")
    tests = ["tests/crash", "tests/writing", "tests/log/test_power_cut.py"]
    tests += ["tests/mirror/test_kill.py", "tests/aio/test_kill.py"]
    session.run("pytest", *tests, *session.posargs, env={"TASKSTORE_CRASH": "long"})
