"""That the benchmark runs; what it finds is for `nox -s bench`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import postgres, runner
from benchmarks.__main__ import main
from benchmarks.chart import drawing
from benchmarks.rows import ROWS
from tests.warm import warm_program

SIZE = 400

CHILD = "import sys; from benchmarks.child import main; main(sys.argv[1])"

# It takes 32 processes, and is otherwise like "writers".
SLOW = {"many-writers"}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the log and the store of all rows are made, once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """One server for all rows that need one."""
    if reason := postgres.why_not():
        pytest.skip(reason)
    with postgres.serving():
        yield


@pytest.fixture
def warm_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in processes that start quickly."""
    monkeypatch.setattr(runner, "child_command", lambda text: warm_program(CHILD, text))


@pytest.mark.parametrize("name", sorted(ROWS.keys() - SLOW))
@pytest.mark.usefixtures("warm_children")
def test_each_row_yields_figures(
    name: str, work: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each row of the table is measured beside its floor, also with a small log."""
    if ROWS[name].on_postgres:
        request.getfixturevalue("server")
    found = tmp_path / "found.json"
    options = ["--rows", name, "--sizes", str(SIZE), "--runs", "1", "--work", str(work)]
    assert 0 == main([*options, "--json", str(found)])
    [result] = json.loads(found.read_text())["results"]
    assert (name, SIZE) == (result["row"], result["size"])
    for side in ("ours", "floor"):
        [run] = result[side]
        assert run["seconds"] > 0


def test_a_machine_without_postgresql_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that cannot be measured are left out, and named."""
    monkeypatch.setattr(postgres, "why_not", lambda: "there is no psycopg")
    found = tmp_path / "found.json"
    assert 0 == main(["--rows", "pg-log", "pg-sync", "--json", str(found)])
    assert [] == json.loads(found.read_text())["results"]
    assert "skipped: pg-log, pg-sync: there is no psycopg" in capsys.readouterr().err


def test_a_side_is_measured_by_an_interpreter_of_its_own(work: Path) -> None:
    """Each side of a row is measured in a process that has run nothing before."""
    [result] = runner.run_rows(["get"], [SIZE], runs=1, work=work)
    assert 0 < result.time("ours")
    assert 0 < result.time("base")


@pytest.mark.usefixtures("warm_children")
def test_the_documentation_gets_a_table_and_curves(tmp_path: Path) -> None:
    """The page for the documentation has a line for each row, the machine, and a drawing."""
    sizes = [str(SIZE), str(SIZE * 2)]
    options = ["--rows", "touch", "get", "--runs", "1", "--work", str(tmp_path / "work")]
    main([*options, "--sizes", *sizes, "--docs", str(tmp_path)])
    page = (tmp_path / "performance-table.md").read_text()
    assert ["| sync after", "| `get` of 1"] == [
        line[:12] for line in page.splitlines() if line.startswith("| ")
    ][2:]
    assert "python 3." in page
    assert (tmp_path / "performance-calls.svg").exists()


def test_a_drawing_is_svg_with_a_line_for_each_curve() -> None:
    """A drawing is well-formed, and has one line and one name for each curve."""
    curves = {"a < b": [(10.0, 1.0), (1000.0, 20.0)], "c": [(10.0, 0.5), (1000.0, 0.5)]}
    root = ElementTree.fromstring(drawing(curves, across="lines", up="ms"))
    kinds = [element.tag.rpartition("}")[2] for element in root]
    assert 2 == kinds.count("polyline")
    assert "a < b" in [element.text for element in root]
