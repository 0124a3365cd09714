"""Runs the rows: each side in a fresh process, by turns with its floor."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

import attrs

from benchmarks.rows import ROWS, Row
from benchmarks.scene import prepare

_POLL_S = 0.01
_ROOT = Path(__file__).resolve().parents[1]

Run = dict[str, float]
"""What one process found: seconds, cpu, mebibytes and more."""


@attrs.frozen
class Result:
    """The runs of one row at one size.

    Attributes:
        row: The row.
        size: Lines in the log.
        ours, base: What each run found, the store's and the floor's.
    """

    row: Row
    size: int
    ours: Sequence[Run]
    base: Sequence[Run]

    def figure(self, side: str, name: str) -> float | None:
        """The median of one figure of a side ("ours" or "base"); None where it has none."""
        runs: Sequence[Run] = getattr(self, side)
        found = [run[name] for run in runs if name in run]
        return median(found) if found else None

    def time(self, side: str) -> float:
        """The median of the time that counts, in seconds."""
        found = self.figure(side, self.row.clock)
        assert found is not None
        return found

    def each_ms(self, side: str = "ours") -> float:
        """The median time of one call of a side, in milliseconds."""
        runs: Sequence[Run] = getattr(self, side)
        return median(run[self.row.clock] / run["each"] for run in runs) * 1000

    @property
    def ratio(self) -> float:
        """Our time in times of the floor's."""
        return self.time("ours") / self.time("base")

    @property
    def misses(self) -> list[str]:
        """Which targets are not reached."""
        row, found = self.row, []
        if row.ratio is not None and self.ratio > row.ratio:
            found.append("ratio")
        if row.milliseconds is not None and self.each_ms() > row.milliseconds:
            found.append("time")
        if row.more is not None and self.each_ms() - self.each_ms("base") > row.more:
            found.append("time")
        if row.mebibytes is not None and (self.figure("ours", "mebibytes") or 0) > row.mebibytes:
            found.append("memory")
        found += [name for name, most in row.facts.items() if (self._fact(name) or 0) > most]
        return found

    def _fact(self, name: str) -> float | None:
        return self.figure("ours", name)


def run_rows(
    names: Iterable[str],
    sizes: Iterable[int],
    *,
    runs: int,
    work: Path,
    say: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Measure rows at sizes.

    Args:
        names: Of the rows.
        sizes: Lines in the log.
        runs: How often each side is run.
        work: Where the logs and stores are made; what is there already is used.
        say: Told what is being done.
    """
    results: list[Result] = []
    for size in sizes:
        templates = work / str(size)
        say(f"preparing {size} lines")
        prepare(templates, size)
        done: dict[str, Result] = {}
        for name in names:
            done[name] = _measured(ROWS[name], size, runs, templates, done, say)
        results += done.values()
    return results


def _measured(
    row: Row,
    size: int,
    runs: int,
    templates: Path,
    done: dict[str, Result],
    say: Callable[[str], None],
) -> Result:
    ours: list[Run] = []
    base: list[Run] = []
    other = done.get(row.base) if isinstance(row.base, str) else None
    for _ in range(runs):
        if isinstance(row.base, str):
            base = list(other.ours) if other else [*base, _run(row.base, True, size, templates)]
        else:
            base.append(_run(row.name, False, size, templates))
        ours.append(_run(row.name, True, size, templates))
    result = Result(row, size, ours, base)
    say(
        f"{row.name}: {result.time('ours'):.4f} s by {result.time('base'):.4f} s, "
        f"{result.ratio:.3g} x; CPU {result.figure('ours', 'cpu'):.4f} s "
        f"by {result.figure('base', 'cpu'):.4f} s"
    )
    return result


def child_command(arguments: str) -> list[str]:
    """Return the command line of a process that measures one side of a row."""
    return [sys.executable, "-m", "benchmarks.child", arguments]


def _run(name: str, ours: bool, size: int, templates: Path) -> Run:
    """One side of a row, in a process of its own and an empty directory."""
    place = tempfile.mkdtemp(dir=templates.parent)
    try:
        arguments = {
            "row": name,
            "ours": ours,
            "size": size,
            "templates": str(templates),
            "place": place,
        }
        command = child_command(json.dumps(arguments))
        child = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        peak = 0.0
        while True:
            try:
                output, _ = child.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, _anonymous_mebibytes(child.pid))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if child.returncode != 0:
        raise RuntimeError(f"{name}, {'ours' if ours else 'the floor'}: see above")
    found: Run = json.loads(output)
    if peak:
        found["mebibytes"] = peak
    return found


def _anonymous_mebibytes(pid: int) -> float:
    """Return the anonymous memory of a process; 0 where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kibibytes = status.partition("RssAnon:")[2].split(maxsplit=1)[:1]
    return int(kibibytes[0]) / 1024 if kibibytes else 0.0
