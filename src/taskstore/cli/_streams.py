"""The standard streams: all that is printed goes through them, and nothing steers the terminal."""

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
    """A standard stream that takes every text: what its encoding does not have is an escape.

    It has no `buffer`, by which libraries would write past it.
    """

    def __init__(self, stream: TextIO, *, is_lossy: bool = False) -> None:
        """Make it.

        Args:
            stream: What is written to.
            is_lossy: Whether text is lost in silence where it cannot be written. That is so for
                stderr: there is nobody left to tell, and what was done stays done.
        """
        self.inner = stream
        self.is_lossy = is_lossy

    @property
    def encoding(self) -> str:
        """The name of the stream's encoding."""
        return getattr(self.inner, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:
        """What becomes of characters that the encoding does not have."""
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
        """Pass on what is still buffered."""
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
        """Whether it is a terminal."""
        return self.inner.isatty()

    def writable(self) -> bool:
        """Whether it can be written."""
        return True


class SafeStream(Stream):
    """A standard stream on which control characters are escapes, except for line ends."""

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        super().write("\n".join(map(visible, text.replace("\r\n", "\n").split("\n"))))
        return len(text)


def unguarded(stream: TextIO) -> TextIO:
    """Return a standard stream for text whose values are escaped already.

    It may have what steers a terminal, colours for one.
    """
    if isinstance(stream, SafeStream):
        return cast("TextIO", Stream(stream.inner, is_lossy=stream.is_lossy))
    return cast("TextIO", Stream(stream, is_lossy=stream is sys.stderr))


def is_utf8(stream: TextIO) -> bool:
    """Whether a stream can take every character."""
    return codecs.lookup(stream.encoding or "utf-8").name == "utf-8"


@contextmanager
def settled_streams() -> Iterator[None]:
    """Guard stdout and stderr, and see to it that no file gets the number of one that is closed.

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
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = cast("TextIO", SafeStream(sys.stdout))
    sys.stderr = cast("TextIO", SafeStream(sys.stderr, is_lossy=True))
    try:
        yield
    except click.ClickException:
        raise
    except Exception:
        # A traceback has values in it too: Python prints it through the guard.
        before = sys.stdout, sys.stderr
        raise
    finally:
        sys.stdout, sys.stderr = before


def abandon(stream: TextIO | None) -> None:
    """Drop what a stream that cannot be written has buffered.

    Otherwise Python would try again when it exits, and complain.
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
