"""The command: `python -m benchmarks`, or `nox -s bench`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import postgres, report
from benchmarks.chart import drawing
from benchmarks.data import FULL_SIZE
from benchmarks.rows import ROWS
from benchmarks.runner import Result, run_rows

_SIZES = (FULL_SIZE // 100, FULL_SIZE // 10, FULL_SIZE)
_PAGE = "performance-table.md"
# What is drawn: single calls, and what goes through the whole log.
_DRAWINGS = {
    "performance-calls.svg": ("create", "get", "open-grown"),
    "performance-bulk.svg": ("full-sync", "tail-sync", "touch", "list", "rebuild", "compact"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write what is asked for; 1 if a target was missed."""
    options = _parser().parse_args(arguments)
    names = options.rows or list(ROWS)
    with _workplace(options.work) as work, _server(names) as names:
        results = run_rows(names, sorted(options.sizes), runs=options.runs, work=work, say=_say)
    for size in sorted({result.size for result in results}):
        print(f"\n{size:,} lines\n")
        print(report.table(result for result in results if result.size == size))
    print("", *report.growth(results), *report.facts(results), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(results), indent=1), encoding="utf-8")
    if options.docs:
        write_docs(options.docs, results)
    full = [result for result in results if result.size >= FULL_SIZE]
    return int(any(result.misses for result in full))


def write_docs(directory: Path, results: Sequence[Result]) -> None:
    """Write what the documentation includes: the table, and the drawings of several sizes."""
    (directory / _PAGE).write_text(report.page(results), encoding="utf-8")
    series = report.by_row(results)
    for name, rows in _DRAWINGS.items():
        curves = {
            row: [(float(result.size), result.each_ms()) for result in series[row]]
            for row in rows
            if row in series
        }
        if curves:
            text = drawing(curves, across="lines in the log", up="ms for one call")
            (directory / name).write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=_SIZES, help="lines in the log")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="a part of the table")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side")
    parser.add_argument("--work", type=Path, help="keep the data here for the next time")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--docs", type=Path, help="write table and drawings to this directory")
    return parser


@contextlib.contextmanager
def _workplace(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="taskstore-bench-") as made:
        yield Path(made)


@contextlib.contextmanager
def _server(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """A block with a server if some rows need one; yields the rows that can be measured."""
    needing = [name for name in names if ROWS[name].on_postgres]
    if not needing:
        yield names
    elif reason := postgres.why_not():
        _say(f"skipped: {', '.join(needing)}: {reason}")
        yield [name for name in names if name not in needing]
    else:
        with postgres.serving():
            yield names


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
