"""How a command ends: with an exit code, or an error without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import click

from taskstore import errors
from taskstore._text import visible
from taskstore.cli._output import flush
from taskstore.cli._streams import abandon
from taskstore.errors import TaskstoreError


class Status(IntEnum):
    """The exit codes of all commands but `merge`, whose codes are for git."""

    OK = 0
    NO = 1
    """The answer is no: nothing was found, or something differs or was skipped."""
    USAGE = 2
    """The command line cannot be understood."""
    STORE = 3
    """There is no store, or it could not be opened, read or written."""
    BUSY = 4
    """Another program holds a lock; the same command may work in a moment."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = 141
    """The program that reads the output has ended, as `head` does."""


_STATUSES: tuple[tuple[type[Exception], Status], ...] = (
    (errors.RecordNotFoundError, Status.NO),
    (errors.RecordExistsError, Status.NO),
    (errors.ConditionFailedError, Status.NO),
    (errors.ConfigError, Status.STORE),
    (errors.LockTimeoutError, Status.BUSY),
    (errors.StaleRecordError, Status.BUSY),
    # Names, ids, filters, cursors, queries: all from the command line itself.
    (ValueError, Status.USAGE),
)
"""The first class that an error is an instance of counts; Status.STORE for all others."""


_AROUND = 40
"""How many characters a message shows before and after the mistake."""


class Failure(click.ClickException):
    """The end of a command: a message on stderr, and an exit code."""

    exit_code: int  # type: ignore[misc] # click's is shared by all, and this one is the error's own

    def __init__(self, message: str, status: Status = Status.NO) -> None:
        super().__init__(message)
        self.exit_code = int(status)

    def format_message(self) -> str:
        """Return the message on one line, with control characters as escapes."""
        return visible(self.message)


def status_of(error: TaskstoreError) -> Status:
    """Return the exit code for an error."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return Status.STORE


def hint(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: a similar known word, if any."""
    from taskstore._text import nearest

    meant = nearest(word, known)
    return f"; did you mean {meant!r}?" if meant is not None else ""


# Before click 8.2, a group without a command printed its help and exited without an error.
_HELPS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


@contextmanager
def guarded() -> Iterator[None]:
    """Turn the errors of a command into a message and an exit code."""
    try:
        yield
        flush()
    except (KeyboardInterrupt, click.Abort):
        raise click.exceptions.Exit(Status.INTERRUPTED) from None
    except BrokenPipeError:
        abandon(sys.stdout)
        raise click.exceptions.Exit(Status.PIPE) from None
    except click.UsageError as error:
        if isinstance(error, _HELPS):
            raise
        # click shows the typed text as it is, and Tab may have typed names from the store.
        raise click.UsageError(visible(error.format_message()), error.ctx) from error
    except (TaskstoreError, UnicodeEncodeError) as error:
        raise failure_of(error) from error
    except OSError as error:
        abandon(sys.stdout)
        raise failure_of(error) from error


def failure_of(error: TaskstoreError | UnicodeEncodeError | OSError) -> Failure:
    """Return the message and the exit code for an error."""
    if isinstance(error, TaskstoreError):
        return Failure(_message(error), status_of(error))
    if isinstance(error, UnicodeEncodeError):
        # Only text from the command line can raise this: the output takes every text.
        text = error.object[max(error.start - _AROUND, 0) : error.end + _AROUND]
        return Failure(f"{text!r} is not UTF-8, and a store has only UTF-8 text", Status.USAGE)
    where = f"{os.fspath(error.filename)!r}: " if error.filename is not None else ""
    return Failure(f"{where}{error.strerror or error}", Status.STORE)


@contextmanager
def reporting(done: str) -> Iterator[None]:
    """Print what a command has done. If printing fails, say that it is done anyway.

    Args:
        done: What is done, as the end of a sentence.

    Raises:
        Failure: Stdout is full or closed.
    """
    try:
        yield
        flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        reason = error.strerror or error
        raise Failure(f"'stdout': {reason}; {done}", Status.STORE) from error


def _message(error: TaskstoreError) -> str:
    """Return the message of an error for the command line, with commands instead of calls."""
    text = str(error)
    if isinstance(error, errors.StoreNotFoundError):
        what, _, _ = text.partition(": create one")
        return f"{what}: create one with `taskstore init`, or name it with --store or TASKSTORE_DIR"
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
