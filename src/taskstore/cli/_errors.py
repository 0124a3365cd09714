"""How a command ends: exit codes, and errors without tracebacks that say what to do next."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import click

from taskstore import errors
from taskstore.errors import TaskstoreError

__all__ = ["Failure", "Status", "guarded", "hint", "reporting", "status_of"]


class Status(IntEnum):
    """The exit codes of all commands; `merge` has its own, which git knows."""

    OK = 0
    NO = 1
    """The command's answer is no: nothing found, something differs or was left out."""
    USAGE = 2
    """The command line cannot be understood."""
    STORE = 3
    """There is no store, or it could not be opened, read or written."""
    BUSY = 4
    """Another program was in the way; the same command may work in a moment."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = 141
    """Whoever read the output has gone, as `head` does."""


_STATUSES: tuple[tuple[type[Exception], Status], ...] = (
    (errors.RecordNotFoundError, Status.NO),
    (errors.RecordExistsError, Status.NO),
    (errors.ConditionFailedError, Status.NO),
    (errors.ConfigError, Status.STORE),
    (errors.LockTimeoutError, Status.BUSY),
    (errors.StaleRecordError, Status.BUSY),
    # Names, ids, filters, cursors, queries: what the command line itself says.
    (ValueError, Status.USAGE),
)
"""The first that an error is an instance of decides; Status.STORE for all others."""


class Failure(click.ClickException):
    """The end of a command: a message on stderr, and an exit code."""

    exit_code: int  # type: ignore[misc] # click's is shared by all, and this one is the error's own

    def __init__(self, message: str, status: Status = Status.NO) -> None:
        super().__init__(message)
        self.exit_code = int(status)


def status_of(error: TaskstoreError) -> Status:
    """Return the exit code for an error."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return Status.STORE


def hint(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the right one, if one is near."""
    from taskstore._survey.nearest import nearest

    meant = nearest(word, known)
    return f"; did you mean {meant!r}?" if meant is not None else ""


@contextmanager
def guarded() -> Iterator[None]:
    """Turn what goes wrong in a command into a message and an exit code."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(Status.INTERRUPTED) from None
    except BrokenPipeError:
        _abandon_output()
        raise click.exceptions.Exit(Status.PIPE) from None
    except TaskstoreError as error:
        raise Failure(_message(error), status_of(error)) from error
    except OSError as error:
        _abandon_output()
        where = f"{os.fspath(error.filename)!r}: " if error.filename is not None else ""
        raise Failure(f"{where}{error.strerror or error}", Status.STORE) from error


@contextmanager
def reporting(done: str) -> Iterator[None]:
    """Print what a command has done; where that fails, say that it is done all the same.

    Args:
        done: what is done, as the end of a sentence.

    Raises:
        Failure: stdout takes no more.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _abandon_output()
        reason = error.strerror or error
        raise Failure(f"'stdout': {reason}; {done}", Status.STORE) from error


def _abandon_output() -> None:
    # What is still buffered would be written, and complained about, when Python exits.
    for stream in (sys.stdout, sys.stderr):
        try:
            fd = stream.fileno()
        except (AttributeError, OSError, ValueError):
            continue
        try:
            stream.flush()
        except OSError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, fd)
            os.close(devnull)


def _message(error: TaskstoreError) -> str:
    """Say an error to somebody who has commands, not calls."""
    text = str(error)
    if isinstance(error, errors.StoreNotFoundError):
        what, _, _ = text.partition(": create one")
        return f"{what}: make one with `taskstore init`, or name it with --store or TASKSTORE_DIR"
    if isinstance(error, errors.RecordNotFoundError):
        return f"no record {error.id!r} in collection {error.collection!r}"
    if isinstance(error, errors.RecordExistsError):
        return (
            f"record {error.id!r} already exists in collection {error.collection!r}: change it "
            "with `taskstore set`"
        )
    if isinstance(error, errors.StoreAccessError):
        return text.partition(" (read_only=True")[0]
    if isinstance(error, errors.LockTimeoutError):
        return f"{text.partition(';')[0]}; try again in a moment"
    return text
