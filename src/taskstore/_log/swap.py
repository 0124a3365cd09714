"""Exchanging two names in one step, where the system can."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

__all__ = ["exchange_names"]

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE; RENAME_SWAP on macOS
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange_names(first: Path, second: Path) -> bool:
    """Give each of two files the other's name.

    Returns:
        Whether that was done; False where the system or the file system cannot.

    Raises:
        OSError: one of them is not there, or the system refused.
    """
    import ctypes

    one, other = os.fsencode(first), os.fsencode(second)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            failed = libc.renamex_np(one, other, _EXCHANGE)
        else:
            failed = libc.renameat2(_HERE, one, _HERE, other, _EXCHANGE)
    except (AttributeError, OSError, TypeError):
        # An old C library, or none.
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _UNABLE:
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))
