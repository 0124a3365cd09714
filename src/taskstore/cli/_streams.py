"""The standard streams. All output goes through them, so nothing controls the terminal."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import click

from taskstore._text import visible


class Stream:
    """A standard stream that takes every text, and escapes what its encoding lacks.

    It has no `buffer`, because libraries would use it to write around the escapes.
    """

    def __init__(self, stream: TextIO, *, is_lossy: bool = False) -> None:
        """Create a stream.

        Args:
            stream: The stream to write to.
            is_lossy: Whether to drop text silently if it cannot be written. Used for stderr: there
                is no other place for a message, and what was done stays done.
        """
        self.inner = stream
        self.is_lossy = is_lossy

    @property
    def encoding(self) -> str:
        """The name of the stream's encoding."""
        return getattr(self.inner, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:
        """How characters that the encoding lacks are handled."""
        return "backslashreplace"

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self.inner.closed

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        try:
            text.encode(self.encoding)
            shown = text
        except UnicodeEncodeError:
            shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        try:
            self.inner.write(shown)
        except OSError:
            if not self.is_lossy:
                raise
            abandon(self.inner)
        return len(text)

    def flush(self) -> None:
        """Write what is still buffered."""
        try:
            self.inner.flush()
        except OSError:
            if not self.is_lossy:
                raise
            abandon(self.inner)

    def fileno(self) -> int:
        """Return the number of the stream's file."""
        return self.inner.fileno()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self.inner.isatty()

    def writable(self) -> bool:
        """Return whether it can be written."""
        return True


class SafeStream(Stream):
    """A standard stream that escapes control characters, except for line ends."""

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        super().write("\n".join(map(visible, text.replace("\r\n", "\n").split("\n"))))
        return len(text)


def unguarded(stream: TextIO) -> TextIO:
    """Return a standard stream for text whose values are escaped already.

    The text may control the terminal, for example with colours.
    """
    if isinstance(stream, SafeStream):
        return cast("TextIO", Stream(stream.inner, is_lossy=stream.is_lossy))
    return cast("TextIO", Stream(stream, is_lossy=stream is sys.stderr))


def is_utf8(stream: TextIO) -> bool:
    """Return whether a stream can take every character."""
    return codecs.lookup(stream.encoding or "utf-8").name == "utf-8"


@contextmanager
def settled_streams() -> Iterator[None]:
    """Guard stdout and stderr, and make sure that no file gets the number of a closed one.

    Otherwise, what a library or a child process writes to that number would end up in a log. A
    closed stdin or stdout stays None in `sys`, so commands can check it. Messages for a closed
    stderr are lost, because click would print them among the data.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The system assigns the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = cast("TextIO", SafeStream(sys.stdout))
    sys.stderr = cast("TextIO", SafeStream(sys.stderr, is_lossy=True))
    try:
        yield
    except click.ClickException:
        raise
    except Exception:
        # A traceback contains values too, so Python prints it through the guard.
        before = sys.stdout, sys.stderr
        raise
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def unwrapped_output() -> Iterator[None]:
    """Give a library stdout as it is, for messages of its own that are not for a terminal."""
    guarded = sys.stdout
    if isinstance(guarded, Stream):
        sys.stdout = guarded.inner
    try:
        yield
    finally:
        sys.stdout = guarded


def abandon(stream: TextIO | None) -> None:
    """Drop the buffer of a stream that cannot be written.

    Otherwise Python would try again when it exits, and print an error.
    """
    if stream is None:
        return
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return
    try:
        stream.flush()
    except OSError:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, fd)
        os.close(devnull)
