"""The results as a table, as JSON, and as a page and drawings for the documentation."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from benchmarks.data import FULL_SIZE
from benchmarks.runner import Result

_LIBRARIES = ("taskstore", "sqlalchemy", "msgspec", "attrs")
GROWTH = 1.5
"""How much slower a call may become, from the smallest log to the largest."""

BYTES_PER_ID = 200
"""How much memory a sync may need for each id, in bytes."""


def machine() -> dict[str, str]:
    """Return the machine and the versions that the figures come from."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_memory_gib()} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in _LIBRARIES},
    }


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def as_json(results: Iterable[Result]) -> dict[str, Any]:
    """All figures."""
    return {
        "machine": machine(),
        "command": sys.argv[1:],
        "results": [
            {
                "row": result.row.name,
                "size": result.size,
                "ratio": result.ratio,
                "misses": result.misses,
                "ours": list(result.ours),
                "floor": list(result.base),
            }
            for result in results
        ],
    }


def table(results: Iterable[Result]) -> str:
    """The rows as a table in Markdown, which is also fit for a terminal."""
    lines: list[tuple[str, ...]] = [
        ("work", "floor", "target", "store", "floor takes", "ratio", "peak memory", "reached"),
        ("---", "---", "---", "---:", "---:", "---:", "---:", "---"),
    ]
    lines += [_line(result) for result in results]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def _line(result: Result) -> tuple[str, ...]:
    row = result.row
    memory = result.figure("ours", "mebibytes")
    return (
        row.work,
        row.floor,
        row.target,
        _shown(result.each_ms() / 1000 if row.milliseconds else result.time("ours")),
        _shown(result.each_ms("base") / 1000 if row.milliseconds else result.time("base")),
        f"{result.ratio:.1%}" if result.ratio < 0.1 else f"{result.ratio:.2f} x",
        f"{memory:.0f} MiB" if memory else "",
        _verdict(result),
    )


def _verdict(result: Result) -> str:
    if not result.row.target:
        return ""
    return f"no: {', '.join(result.misses)}" if result.misses else "yes"


def _shown(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1_000_000:.0f} us"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def facts(results: Iterable[Result]) -> list[str]:
    """Return what was found beside the times, as sentences."""
    found = []
    for result in results:
        if result.row.adds:
            added = (result.each_ms() - result.each_ms("base")) * 1000
            found.append(
                f"{result.row.work}: {added:.0f} us of processor time more for each call "
                f"(floor: {result.each_ms('base') * 1000:.0f})"
            )
        for name, text in _FACTS.items():
            value = result.figure("ours", name)
            if value is not None:
                floor = result.figure("base", name)
                beside = f" (floor: {_number(floor)})" if floor is not None else ""
                where = f"{result.row.work}, {_count(result.size)} lines"
                found.append(f"{where}: {text} {_number(value)}{beside}")
    return found


_FACTS: Mapping[str, str] = {
    "first_ms": "the first in a process, in ms:",
    "p50_ms": "median of one call, in ms:",
    "p99_ms": "99 of 100 take at most, in ms:",
    "longest_ms": "the longest, in ms:",
    "lag_p99_ms": "99 of 100 commits are in the log after, in ms:",
    "hits": "hits:",
}


def growth(results: Sequence[Result]) -> list[str]:
    """Return a sentence for each row that must not grow with the log."""
    found = []
    for name, series in by_row(results).items():
        if len(series) > 1 and not series[0].row.grows:
            first, last = series[0], series[-1]
            times = last.each_ms() / first.each_ms()
            # A disk that was busier then than now is busier for both.
            floor = last.each_ms("base") / first.each_ms("base")
            verdict = "yes" if times / floor <= GROWTH else "no"
            found.append(
                f"`{name}`: one call takes {first.each_ms():.3f} ms with {_count(first.size)} "
                f"lines and {last.each_ms():.3f} ms with {_count(last.size)}, {times:.2f} x; its "
                f"floor {floor:.2f} x; beside it {times / floor:.2f} x "
                f"(at most {GROWTH} x: {verdict})"
            )
    found += _memory_growth(by_row(results).get("full-sync", []))
    return found


def _memory_growth(series: Sequence[Result]) -> list[str]:
    if len(series) < 2:
        return []
    first, last = series[-2:]
    sizes = [result.figure("ours", "mebibytes") for result in (first, last)]
    if sizes[0] is None or sizes[1] is None:
        return []
    each = (sizes[1] - sizes[0]) * 2**20 / (last.size / 2 - first.size / 2)
    verdict = "yes" if each <= BYTES_PER_ID else "no"
    return [
        (
            f"`full-sync`: {each:.0f} bytes of memory for each id more "
            f"(at most {BYTES_PER_ID}: {verdict})"
        )
    ]


def by_row(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The results of each row, by size."""
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda result: result.size):
        found.setdefault(result.row.name, []).append(result)
    return found


def page(results: Sequence[Result]) -> str:
    """Return the page that the documentation includes. `nox -s bench` writes it."""
    size = max(result.size for result in results)
    largest = [result for result in results if result.size == size]
    where = "; ".join(f"{name} {value}" for name, value in machine().items())
    note = "" if size == FULL_SIZE else " (the targets are meant for 1,000,000)"
    parts = [
        (
            f"Medians of {len(largest[0].ours)} runs on a log of {_count(size)} lines over "
            f"{_count(size // 2)} ids{note}."
        ),
        f"Measured on: {where}.",
        table(largest),
        *(_bullets(some) for some in (growth(results), facts(largest)) if some),
    ]
    return "\n\n".join(parts) + "\n"


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: int) -> str:
    return f"{number:,}"
