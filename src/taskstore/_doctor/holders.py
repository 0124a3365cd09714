"""Who holds a lock, where the operating system tells."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["holder"]

_TABLE = Path("/proc/locks")


def holder(file: Path | int) -> str | None:
    """Return the process that has a file locked, as text; None where that cannot be known.

    Args:
        file: its path, or its descriptor.
    """
    try:
        inode = str(os.stat(file).st_ino)
        rows = _TABLE.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for row in rows:
        # 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF; of one that waits, "->" comes second.
        parts = row.split()
        if "->" not in parts and len(parts) > 5 and parts[5].rpartition(":")[2] == inode:
            return _named(parts[4])
    return None


def _named(pid: str) -> str | None:
    if not pid.isdigit() or pid == "0":
        return None  # of another container
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}"
    command = b" ".join(words).decode(errors="replace").strip()
    return f"process {pid} ({command[:100]})" if command else f"process {pid}"
