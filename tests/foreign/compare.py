"""Compare a run of an application's tests with us to one without: `compare.py ALONE MIRRORED`.

A third argument is another limit than `MOST`.

Both files were written by the plugin. The exit code is 1 if a test ends worse with us, if nothing
was mirrored, or if the tests take more than 1.4 times the processor time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST = 1.4
"""How many times the processor time the tests may take."""


def faults(alone: dict[str, Any], mirrored: dict[str, Any], most: float = MOST) -> Iterator[str]:
    """Yield what is wrong with a run."""
    ends = mirrored["outcomes"]
    for test, outcome in alone["outcomes"].items():
        if ends.get(test) != outcome:
            yield f"{test}: {outcome} without us, {ends.get(test, 'not run')} with us"
    if not mirrored["lines"]:
        yield "no line was written: are the models of another base?"
    if ratio(alone, mirrored) > most:
        yield f"processor time: more than {most} times that without us"


def ratio(alone: dict[str, Any], mirrored: dict[str, Any]) -> float:
    """Return the processor time of the tests, without opening and verifying, as a multiple."""
    return float(sum(mirrored["tests"].values()) / sum(alone["tests"].values()))


def summary(alone: dict[str, Any], mirrored: dict[str, Any]) -> str:
    """Return the figures of a run in one line."""
    used, passed = sum(alone["tests"].values()), list(alone["outcomes"].values()).count("passed")
    return (
        f"{passed} of {len(alone['outcomes'])} tests pass without us; {mirrored['stores']} stores "
        f"with {mirrored['lines']} lines; {used:.1f} s without us, {ratio(alone, mirrored):.2f} "
        f"times that with us, and {mirrored['opening']:.1f} s to open stores, "
        f"{mirrored['verifying']:.1f} s to verify them"
    )


def main(paths: list[str]) -> int:
    """Print the comparison of two runs."""
    alone, mirrored = (json.loads(Path(path).read_text(encoding="utf-8")) for path in paths[:2])
    found = list(faults(alone, mirrored, *map(float, paths[2:])))
    for line in (summary(alone, mirrored), *found):
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
