"""Append a transaction to the log: whole, durable, and removable until COMMIT.

The caller holds the log lock from before `append` until after `retire` or `take_back`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from taskstore._format.fingerprint import Fingerprint
from taskstore._format.names import check_collection_name
from taskstore._format.problems import Problem
from taskstore._log import files
from taskstore._log.journal import retire_journal, write_journal
from taskstore._log.layout import Layout
from taskstore._log.recovery import recover
from taskstore._log.target import StuckError, Target
from taskstore.errors import CommitUncertainError, LogWriteError, TaskstoreError

_ATTEMPTS = 20


@attrs.define(eq=False)
class Appended:
    """Lines that are durable in the log, of a transaction that is not committed yet.

    The logs stay locked for other programs until `retire` or `take_back`: one of the two has to
    be called, under the same log lock.

    Attributes:
        fingerprints: What to record for each collection; None leaves what is recorded, so that
            the next look at that log replays it (git or another program was there).
        problems: What a recovery just before has found.
    """

    fingerprints: dict[str, Fingerprint | None]
    problems: list[Problem]
    _layout: Layout
    _targets: list[Target]
    _journalled: bool

    def take_back(self, reason: str) -> None:
        """Take the lines out of the log again, durably.

        Args:
            reason: Why the commit failed.

        Raises:
            CommitUncertainError: That cannot be done without harm to what others have written, or
                cannot be made durable. The log has the transaction, or the journal will settle it.
        """
        undo = _Undo(self._layout, self._targets, journalled=self._journalled)
        try:
            undo.run(reason, complete=True)
        finally:
            self.close()

    def retire(self) -> bool:
        """Retire the journal, after COMMIT, and unlock the logs.

        Returns:
            Whether no trace is left. If the disk refuses, whoever takes the log lock next finds
            the transaction complete, and tries again.
        """
        try:
            if self._journalled:
                retire_journal(self._layout.journal_path)
        except OSError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Unlock the logs if an exception has interrupted `retire` or `take_back`."""
        for target in self._targets:
            target.close()


@attrs.frozen
class LogWriter:
    """Appends transactions to the logs of one directory.

    Args:
        layout: The directory.
        lock_timeout: How long to wait, in seconds, for another program that locks a log.
        now_ns: The clock, in nanoseconds since the epoch.
    """

    layout: Layout
    lock_timeout: float = attrs.field(default=30.0, kw_only=True)
    now_ns: Callable[[], int] = attrs.field(default=time.time_ns, kw_only=True)

    def append(
        self,
        batch: Mapping[str, Sequence[bytes]],
        known: Mapping[str, Fingerprint | None],
    ) -> Appended:
        """Append a transaction; when this returns, its lines are on the disk.

        Args:
            batch: The lines of each collection, without newlines.
            known: The fingerprint that is recorded for each; None or absent where nothing is.

        Raises:
            LogWriteError: A file operation failed; nothing of the transaction is kept.
            CommitUncertainError: One failed, and what was written could not be removed.
            LockTimeoutError: Another program has locked a log for too long.
            InvalidNameError: A collection cannot have that name.
            RecoveryError: An earlier transaction was interrupted and cannot be settled.
        """
        problems = recover(self.layout, lock_timeout=self.lock_timeout)
        work = {name: lines for name, lines in sorted(batch.items()) if lines}
        _check(work)
        for _ in range(_ATTEMPTS):
            attempt = _Attempt(self, work, known)
            try:
                if (appended := attempt.run(problems)) is not None:
                    return appended
            except BaseException as error:
                attempt.abandon(error)
                raise
        path = ", ".join(str(self.layout.log_path(name)) for name in work)
        raise LogWriteError(path, step="append", reason="another program keeps replacing the file")


def _check(work: Mapping[str, Sequence[bytes]]) -> None:
    for collection, lines in work.items():
        check_collection_name(collection)
        # Joined, because each line by itself would take ten times as long.
        whole = b"".join(lines)
        if b"\n" in whole or b"\0" in whole or not all(lines):
            raise ValueError(f"a line for {collection!r} is empty or has a newline or NUL in it")


class _Attempt:
    """One try at an append: it ends whole, or undone."""

    def __init__(
        self,
        writer: LogWriter,
        work: Mapping[str, Sequence[bytes]],
        known: Mapping[str, Fingerprint | None],
    ) -> None:
        self._writer = writer
        self._layout = writer.layout
        self._targets = [
            Target(name, self._layout.log_path(name), lines, known.get(name), self._layout.digester)
            for name, lines in work.items()
        ]
        self._journalled = False
        self._looked_ns = 0
        self._step = "open"
        self._at = self._layout.directory

    def run(self, problems: list[Problem]) -> Appended | None:
        """Append. Return None if a log was replaced meanwhile, and all was undone."""
        try:
            if self._place():
                return self._appended(problems)
        except EOFError:
            # A log was cut while its digest was taken.
            pass
        except OSError as error:
            self._fail(error)
        self._undo("another program replaced the file", again=True)
        return None

    def abandon(self, error: BaseException) -> None:
        """Undo what an exception, which can come at any instruction, has left of the attempt."""
        if any(target.is_open for target in self._targets):
            self._undo(f"{type(error).__name__} during the append")

    def _place(self) -> bool:
        timeout = self._writer.lock_timeout
        for target in self._each("open"):
            target.open(timeout)
        lines = sum(len(target.lines) for target in self._targets)
        if lines > 1 or any(target.is_unended for target in self._targets):
            self._write_journal()
        if not all(target.create(timeout) for target in self._each("create")):
            return False
        for target in self._each("append"):
            target.write(self._writer.now_ns())
        for target in self._each("fsync"):
            target.sync()
        if any(target.is_unsettled for target in self._targets):
            self._step, self._at = "fsync", self._layout.directory
            files.sync_directory(self._layout.directory)
        # Before the last look, because a log that changes after it may keep its stat.
        self._looked_ns = self._writer.now_ns()
        return all(target.is_placed() for target in self._each("compare"))

    def _each(self, step: str) -> Iterator[Target]:
        """Yield the targets, noting which one is at which step."""
        for target in self._targets:
            self._step, self._at = step, target.path
            yield target

    def _write_journal(self) -> None:
        self._step, self._at = "journal", self._layout.journal_path
        entries = [target.entry() for target in self._targets]
        # From here on a part of it may be there, which is as good as none but has to go.
        self._journalled = True
        write_journal(
            self._layout.journal_path, entries, self._layout.mark, mode=self._layout.state_mode
        )

    def _fail(self, error: OSError) -> None:
        step, at = self._step, self._at
        if isinstance(error, TaskstoreError):
            self._undo(str(error))
            raise error
        reason = error.strerror or str(error)
        self._undo(f"{step}: {reason}")
        raise LogWriteError(at, step=step, reason=reason, errno=error.errno) from error

    def _undo(self, reason: str, *, again: bool = False) -> None:
        undo = _Undo(self._layout, self._targets, journalled=self._journalled)
        try:
            undo.run(reason, again=again)
        finally:
            for target in self._targets:
                target.close()

    def _appended(self, problems: list[Problem]) -> Appended:
        prints = {
            target.collection: target.fingerprint(self._looked_ns) for target in self._targets
        }
        return Appended(prints, problems, self._layout, self._targets, self._journalled)


@attrs.frozen
class _Undo:
    """Removes a transaction's bytes from the logs, or leaves what recovery needs to do so."""

    layout: Layout
    targets: list[Target]
    journalled: bool = attrs.field(kw_only=True)

    def run(self, reason: str, *, complete: bool = False, again: bool = False) -> None:
        """Undo.

        Args:
            reason: Why, for the message.
            complete: The transaction is whole in the log; it stays so if any part must stay.
            again: It will be appended again at once. A line that must stay, because another
                program has built upon it, does no harm then: it will be there twice.

        Raises:
            CommitUncertainError: It could not be undone, or not durably.
        """
        cuts, stuck, failed = self._survey()
        if not again:
            failed = [*stuck, *failed]
        if not (failed and complete):
            attempts = [self._cut(target, size) for target, size in cuts]
            failed += [error for error in attempts if error is not None]
        if failed:
            paths = [str(target.path) for target in self.targets]
            raise CommitUncertainError(paths=paths, reason=f"{reason}; {failed[0]}")
        if self.journalled:
            # If that fails, nothing of the transaction is left for the journal to apply to.
            with contextlib.suppress(OSError):
                retire_journal(self.layout.journal_path)

    def _survey(self) -> tuple[list[tuple[Target, int]], list[Exception], list[Exception]]:
        cuts: list[tuple[Target, int]] = []
        stuck: list[Exception] = []
        failed: list[Exception] = []
        for target in self.targets:
            try:
                size = target.cut_point()
            except StuckError as error:
                stuck.append(error)
            except OSError as error:
                failed.append(error)
            else:
                if size is not None:
                    cuts.append((target, size))
        return cuts, stuck, failed

    def _cut(self, target: Target, size: int) -> Exception | None:
        try:
            target.cut(size)
        except OSError as error:
            return error
        return None
