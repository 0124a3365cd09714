"""One side of one row in a process of its own: `python -m benchmarks.child <JSON>`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.rows import ROWS
from benchmarks.scene import Scene


def main(text: str) -> None:
    """Run what the arguments say, and print what was found."""
    arguments = json.loads(text)
    scene = Scene(arguments["size"], Path(arguments["templates"]), Path(arguments["place"]))
    row = ROWS[arguments["row"]]
    side = row.ours if arguments["ours"] else row.base
    assert not isinstance(side, str)
    side(scene)
    each = scene.facts.pop("each", 1)
    if "p50_ms" in scene.facts:
        scene.facts["p99_by_p50"] = scene.facts["p99_ms"] / scene.facts["p50_ms"]
    print(json.dumps({"seconds": scene.seconds, "cpu": scene.cpu, "each": each, **scene.facts}))


if __name__ == "__main__":
    main(sys.argv[1])
