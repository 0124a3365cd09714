"""The standard streams, of which the caller may have closed any."""

from __future__ import annotations

import os
import sys

__all__ = ["settle_streams"]


def settle_streams() -> None:
    """See to it that no file gets the number of a stream that is closed, and stderr takes errors.

    What a library, or a child, writes to such a number would end up in a log. A closed stdin or
    stdout stays None in `sys`, by which a command knows it; what is said on a closed stderr is
    lost, for otherwise click would print it among the data.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The system gives the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
