"""Which kind of file system a directory is on, where the operating system tells."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["network_file_system"]

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|afpfs|ceph|glusterfs|lustre|ncpfs|davfs|webdav|"
    r"fuse\.(?:sshfs|s3fs|rclone|glusterfs|davfs2?|gcsfuse|gvfsd-fuse)"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the network file system that a path is on; None for any other.

    Args:
        path: The path.
        mounts: The table of mounts, as Linux has it; elsewhere nothing is known.
    """
    try:
        rows = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    found: tuple[int, str] = (-1, "")
    for row in rows:
        before, _, after = row.partition(" - ")
        point = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4]))
        # Of two mounts at one place the later one is seen.
        if resolved.is_relative_to(point) and len(point.parts) >= found[0]:
            found = len(point.parts), after.split(" ")[0]
    return found[1] if _NETWORK.fullmatch(found[1]) else None
