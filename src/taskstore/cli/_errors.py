"""How a command ends: exit codes, and errors without tracebacks that say what to do next."""

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


_AROUND = 40
"""How many characters a message shows before and after what is wrong."""


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
    """Return the end of a message about an unknown word: the right one, if one is near."""
    from taskstore._text import nearest

    meant = nearest(word, known)
    return f"; did you mean {meant!r}?" if meant is not None else ""


# Before click 8.2 a group without a command printed its help and left, with no error of its own.
_HELPS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


@contextmanager
def guarded() -> Iterator[None]:
    """Turn what goes wrong in a command into a message and an exit code."""
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
        # click shows what was typed as it is, and names of the store may be typed by Tab.
        raise click.UsageError(visible(error.format_message()), error.ctx) from error
    except TaskstoreError as error:
        raise Failure(_message(error), status_of(error)) from error
    except UnicodeEncodeError as error:
        # Of all texts only what was typed can be so: the output takes every one.
        text = error.object[max(error.start - _AROUND, 0) : error.end + _AROUND]
        message = f"{text!r} is not UTF-8, as all that a store can have"
        raise Failure(message, Status.USAGE) from error
    except OSError as error:
        abandon(sys.stdout)
        where = f"{os.fspath(error.filename)!r}: " if error.filename is not None else ""
        raise Failure(f"{where}{error.strerror or error}", Status.STORE) from error


@contextmanager
def reporting(done: str) -> Iterator[None]:
    """Print what a command has done; where that fails, say that it is done all the same.

    Args:
        done: What is done, as the end of a sentence.

    Raises:
        Failure: Stdout takes no more.
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
