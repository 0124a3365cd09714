"""What the operating system refuses, said as an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskstore.errors import StoreAccessError, TaskstoreError


@contextmanager
def access(path: Path, operation: str = "read") -> Iterator[None]:
    """Raise what goes wrong with a file in a block as StoreAccessError."""
    try:
        yield
    except TaskstoreError:
        raise
    except OSError as error:
        raise StoreAccessError(
            path, operation=operation, reason=error.strerror or str(error), errno=error.errno
        ) from error
