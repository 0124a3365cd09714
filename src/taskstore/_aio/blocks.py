"""Transactions and sessions of an asyncio task. Each one lives in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import attrs
from sqlalchemy.orm import Session

from taskstore._aio.threads import Threads
from taskstore.errors import TransactionOpenError

P = ParamSpec("P")
T = TypeVar("T")
Task = asyncio.Task[Any]


class AsyncTransaction:
    """What the blocks of `AsyncStore.transaction` and `AsyncStore.session` yield.

    Store calls of the same task join the block. The SQLAlchemy session lives in a thread; use it
    with `run_sync`.
    """

    def __init__(self, threads: Threads, session: Session) -> None:
        self._threads = threads
        self._session = session

    async def run_sync(
        self, call: Callable[Concatenate[Session, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function with the session, in its thread, and return the result.

        Let the function return records or values instead of rows, because a row loads missing
        attributes in the thread that reads them.
        """
        return await self._threads.run(lambda: call(self._session, *args, **kwargs))

    async def flush(self) -> None:
        """Flush the session."""
        await self._threads.run(self._session.flush)

    async def commit(self) -> None:
        """Commit a session. A transaction commits by itself at its end.

        Cancelling a running commit does not undo it.
        """
        await self._threads.run(self._session.commit)

    async def rollback(self) -> None:
        """Roll back."""
        await self._threads.run(self._session.rollback)


@attrs.frozen(eq=False)
class _Mark:
    """Marks the tasks that are started in a block."""

    blocks: Blocks
    task: Task
    outer: _Mark | None


_mark: ContextVar[_Mark | None] = ContextVar("taskstore_block", default=None)


class Blocks:
    """The blocks that the tasks of one store are in."""

    def __init__(self) -> None:
        self._open: dict[Task, list[Threads]] = {}

    def threads(self) -> Threads | None:
        """The thread of the innermost block that the calling task is in, if it is in one."""
        stack = self._open.get(_current_task())
        return stack[-1] if stack else None

    def check_own(self, operation: str) -> None:
        """Refuse to write in a task that was started in the block of another task.

        It would wait for the end of the block, while the block usually waits for the task.

        Raises:
            TransactionOpenError: The block is still open.
        """
        task = _current_task()
        mark = _mark.get()
        while mark is not None:
            if mark.blocks is self and mark.task is not task and mark.task in self._open:
                raise TransactionOpenError(operation=f"{operation} in a task that was started")
            mark = mark.outer

    def enter(self, task: Task, threads: Threads) -> None:
        """Note that the calling task is in a block."""
        self._open.setdefault(task, []).append(threads)
        _mark.set(_Mark(self, task, _mark.get()))

    def leave(self, task: Task, threads: Threads) -> None:
        """Note that the task has left its innermost block in a thread."""
        stack = self._open[task]
        del stack[len(stack) - 1 - stack[::-1].index(threads)]
        if not stack:
            del self._open[task]
        mark = _mark.get()
        if mark is not None and mark.blocks is self:
            _mark.set(mark.outer)


class Block:
    """An `async with` block around a block of the store, which runs in a thread."""

    def __init__(
        self, blocks: Blocks, make: Callable[[], AbstractContextManager[Session]], operation: str
    ) -> None:
        self._blocks = blocks
        self._make = make
        self._operation = operation

    async def __aenter__(self) -> AsyncTransaction:
        """Begin."""
        self._blocks.check_own(self._operation)
        outer = self._blocks.threads()
        self._is_outermost = outer is None
        self._threads = outer or Threads(1)
        self._task = _current_task()
        self._inner = self._make()
        begun: list[Session] = []
        try:
            await self._threads.run(lambda: begun.append(self._inner.__enter__()))
        except BaseException as error:
            # Cancelled while it began: nobody else will leave it.
            if begun:
                await self._end(error)
            self._release()
            raise
        self._blocks.enter(self._task, self._threads)
        return AsyncTransaction(self._threads, begun[0])

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End: commit, or roll back."""
        try:
            await self._end(error)
        finally:
            self._blocks.leave(self._task, self._threads)
            self._release()

    async def _end(self, error: BaseException | None) -> None:
        kind = None if error is None else type(error)
        traceback = None if error is None else error.__traceback__
        await self._threads.run(lambda: self._inner.__exit__(kind, error, traceback))

    def _release(self) -> None:
        if self._is_outermost:
            self._threads.release()


def _current_task() -> Task:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("an asyncio store is used within a task of asyncio")
    return task
