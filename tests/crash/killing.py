"""A writer that tells what it does, and is killed at any instant."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

server = multiprocessing.get_context("forkserver")


def run_and_kill(
    target: Callable[..., None],
    folder: Path,
    born: Mapping[int, bool],
    alive: Sequence[int],
    note: Callable[..., None],
    *,
    chance: random.Random,
    messages: int,
    longest: float,
) -> None:
    """Run a writer in a process, kill it, and take in all that it had to say.

    Args:
        target: The writer; its module can be imported.
        folder: Where it writes.
        born: The groups of records that have been announced.
        alive: Those of them that are there, so that it can delete them.
        note: Takes in a message.
        chance: Draws when it is killed.
        messages: It lives for less than so many messages,
        longest: And for so many seconds more, at most.
    """
    ours, theirs = server.Pipe(duplex=False)
    first, seed = max(born, default=0) + 1, chance.randrange(2**32)
    process = server.Process(target=target, args=(folder, theirs, first, alive, seed))
    process.start()
    theirs.close()
    try:
        for _ in range(chance.randrange(1, messages)):
            assert _heard(ours, note, wait=60)
        # From here on it is in the middle of whatever comes next.
        time.sleep(chance.random() * longest)
    finally:
        process.kill()
        process.join()
    while _heard(ours, note, wait=0):
        pass
    ours.close()


def _heard(ours: Connection, note: Callable[..., None], wait: float) -> bool:
    """Take in one message, if there is one; False at the end."""
    try:
        if not ours.poll(wait):
            return False
        message = ours.recv()
    except (EOFError, OSError):
        return False
    note(*message)
    return True
