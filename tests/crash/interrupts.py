"""Raises an exception at a chosen line of the library, as a signal handler could anywhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import taskstore

ROOT = Path(taskstore.__file__).parent
TRACED = tuple(str(ROOT / name) for name in ("_log", "_store", "_cache", "_mirror"))

# Who holds a lock of C in a `with` block can only be interrupted there by a tracer: the end of
# the block has no instruction at which Python looks for signals.
WITH_LOCKS_OF_C = ("followers.py", "schema.py")

# SQLite's module drops what comes before the first line of a function that SQLite calls.
CALLED_BY_SQLITE = ("_authorize", "call")


class Interrupt(BaseException):
    """What is raised: no `Exception`, as KeyboardInterrupt is none."""


class Point(NamedTuple):
    """A line, and the how manieth time that it is reached."""

    path: str
    line: int
    time: int

    def __str__(self) -> str:
        return f"{Path(self.path).relative_to(ROOT)}:{self.line} ({self.time})"


class Interrupter:
    """Notes the lines that a call runs, or raises at one of them, in whatever thread."""

    def __init__(self) -> None:
        self.raised: Interrupt | None = None
        self._seen: Counter[tuple[str, int]] = Counter()
        self._at: Point | None = None
        self._armed = False

    def points(self, call: Callable[[], Any]) -> list[Point]:
        """Call, and return each line that ran, with its first time and its last."""
        with self.armed(None):
            call()
        return self.seen()

    def run(self, call: Callable[[], Any], at: Point) -> BaseException | None:
        """Call, raise at a point, and return what comes out, with the frames it came through."""
        try:
            with self.armed(at):
                call()
        except BaseException as error:  # noqa: BLE001 - it is looked at
            return error
        return None

    @contextmanager
    def armed(self, at: Point | None) -> Iterator[None]:
        """Trace this thread in a block, and those that trace already; raise at a point."""
        self._seen.clear()
        self._at, self.raised = at, None
        before = sys.gettrace()
        self._armed = True
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(before)
            self._armed = False

    def seen(self) -> list[Point]:
        """Return the lines that ran in the last block."""
        times = self._seen.items()
        return sorted(Point(*place, time) for place, most in times for time in {1, most})

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Trace the functions of the library; also to be given to `threading.settrace`."""
        path = frame.f_code.co_filename
        if not self._armed or not path.startswith(TRACED) or path.endswith(WITH_LOCKS_OF_C):
            return None
        if _is_finalizing(frame):
            # Python drops what is raised there.
            return None
        if frame.f_code.co_name in CALLED_BY_SQLITE:
            return lambda *_: self._line
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "line" or not self._armed:
            return self._line
        place = frame.f_code.co_filename, frame.f_lineno
        self._seen[place] += 1
        if self._at is not None and (*place, self._seen[place]) == self._at:
            self._armed = False
            self.raised = Interrupt(str(self._at))
            raise self.raised
        return self._line


def _is_finalizing(frame: FrameType | None) -> bool:
    """Whether a frame belongs to the end of an object."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
