"""`taskstore browse` as a program."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.programs import CALL, environment


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start the program in a folder."""
    return subprocess.Popen(
        [*CALL, "browse", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the store in a folder, and give the address of the first page, in a block."""
    process = started(folder, "--json")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield json.loads(line)["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate()
    assert (0, "", "") == (process.returncode, rest, errors)
