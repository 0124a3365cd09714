"""A keyed digest of a log that can be carried forward.

Whoever pushes to a repository chooses the bytes of its logs, so equal bytes are concluded from a
cryptographic digest, with a key that is never in a clone. An append must not cost more the
longer the log is, so the digest is built from blocks:

- a *leaf* is the hash of one block;
- the *chain* takes in the leaves of all full blocks, one after the other;
- the *tag* is the hash of the chain, the leaf of the last block, which is not full, and the length.

Chain and tag together are the digest's text. To carry it forward, the last block is read again and
must give the recorded tag. Blocks of a long log are hashed by two threads.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from taskstore._log import files

if TYPE_CHECKING:
    from hashlib import _Hash


_KEY_BYTES = 32
_BLOCK = 64 * 1024
_SPAN = 4 * _BLOCK
"""How many bytes to read at once. They stay in the processor's cache until they are hashed."""

_LONG = 1024 * 1024
"""From this length on a second thread saves more time than it takes to start."""

_HEX_CHARS = 64
_REMEMBERED = 64
"""How many digests are kept to be carried forward without a look at the log."""


class _Keyed(NamedTuple):
    """Hashes that have taken in the key, and what they are for: to be copied, not updated."""

    leaf: _Hash
    link: _Hash
    tag: _Hash


class Digester:
    """Digests logs under one key.

    Args:
        key: 32 bytes that nobody knows who could bring a log.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key has {_KEY_BYTES} bytes, not {len(key)}")
        # One block of SHA-256 each: it costs nothing more at each use.
        labels = (b"taskstore leaf", b"taskstore chain", b"taskstore tag")
        self._keyed = _Keyed(*(sha256(key + label.ljust(_KEY_BYTES, b"\0")) for label in labels))
        self._latest: dict[str, LogDigest] = {}

    def begin(self) -> LogDigest:
        """Return the digest of nothing, to be updated."""
        return LogDigest(self._keyed)

    def read(self, fd: int, stop: int) -> LogDigest:
        """Return the digest of a log's bytes before `stop`.

        Raises:
            EOFError: The log is shorter than `stop`.
        """
        full = stop - stop % _BLOCK
        found = self.begin()
        found.chain(self._leaves(fd, full))
        if full < stop:
            found.update(_read(fd, stop - full, full))
        return found

    def resume(self, fd: int, size: int, text: str) -> LogDigest | None:
        """Return a recorded digest, to be carried forward; None if it is not that of the log.

        Only the log's last block before `size` is read and compared; not even that if it was
        remembered here.

        Args:
            fd: The log.
            size: The length, in bytes, that was recorded with the digest.
            text: What was recorded.

        Raises:
            EOFError: The log is shorter than `size`.
        """
        latest = self._latest.get(text)
        if latest is not None and latest.size == size:
            return latest.copy()
        full = size - size % _BLOCK
        try:
            chained = bytes.fromhex(text[:_HEX_CHARS])
        except ValueError:
            return None
        found = LogDigest(self._keyed, chained, full)
        if full < size:
            found.update(_read(fd, size - full, full))
        return found if found.text() == text else None

    def remember(self, digest: LogDigest) -> str:
        """Keep a digest that is about to be recorded, for the next append; return its text."""
        text = digest.text()
        while len(self._latest) >= _REMEMBERED:
            with suppress(KeyError, StopIteration, RuntimeError):
                del self._latest[next(iter(self._latest))]
        self._latest[text] = digest.copy()
        return text

    def _leaves(self, fd: int, stop: int) -> list[bytes]:
        spans = range(0, stop, _SPAN)
        if stop < _LONG:
            return [leaf for span in self._hash(fd, spans, stop) for leaf in span]
        odd: list[list[bytes]] = []

        def help_along() -> None:
            # A failure here repeats below, where it can be raised.
            with suppress(OSError, EOFError):
                odd.extend(self._hash(fd, spans[1::2], stop))

        helper = Thread(target=help_along, name="taskstore-digest")
        # No thread can be started as the interpreter ends, or beyond a limit of the system.
        with suppress(RuntimeError):
            helper.start()
        try:
            even = self._hash(fd, spans[::2], stop)
        finally:
            if helper.ident is not None:
                helper.join()
        odd = odd or self._hash(fd, spans[1::2], stop)
        leaves: list[list[bytes]] = [[]] * len(spans)
        leaves[::2], leaves[1::2] = even, odd
        return [leaf for span in leaves for leaf in span]

    def _hash(self, fd: int, spans: range, stop: int) -> list[list[bytes]]:
        """Return the leaves of some spans, by span."""
        found = []
        for start in spans:
            data = memoryview(_read(fd, min(_SPAN, stop - start), start))
            leaves = []
            for at in range(0, len(data), _BLOCK):
                leaf = self._keyed.leaf.copy()
                leaf.update(data[at : at + _BLOCK])
                leaves.append(leaf.digest())
            found.append(leaves)
        return found


class LogDigest:
    """The digest of the first `size` bytes of a log, which more can be added to.

    Attributes:
        size: Bytes that it covers.
    """

    __slots__ = ("_chained", "_keyed", "_leaf", "size")

    def __init__(self, keyed: _Keyed, chained: bytes | None = None, size: int = 0) -> None:
        self.size = size
        self._keyed = keyed
        self._chained = keyed.link.digest() if chained is None else chained
        self._leaf = keyed.leaf.copy()

    def update(self, data: bytes) -> None:
        """Add the bytes that follow."""
        view = memoryview(data)
        while view:
            piece = view[: _BLOCK - self.size % _BLOCK]
            self._leaf.update(piece)
            self.size += len(piece)
            view = view[len(piece) :]
            if self.size % _BLOCK == 0:
                self._link(self._leaf.digest())
                self._leaf = self._keyed.leaf.copy()

    def copy(self) -> LogDigest:
        """Return a digest of the same bytes."""
        copied = LogDigest(self._keyed, self._chained, self.size)
        copied._leaf = self._leaf.copy()
        return copied

    def chain(self, leaves: list[bytes]) -> None:
        """Add full blocks, given by their leaves, where a block begins."""
        for leaf in leaves:
            self._link(leaf)
        self.size += len(leaves) * _BLOCK

    def text(self) -> str:
        """Return the digest as it is recorded."""
        tag = self._keyed.tag.copy()
        tag.update(self._chained + self._leaf.digest() + self.size.to_bytes(8, "big"))
        return self._chained.hex() + tag.hexdigest()

    def _link(self, leaf: bytes) -> None:
        link = self._keyed.link.copy()
        link.update(self._chained + leaf)
        self._chained = link.digest()


def _read(fd: int, size: int, start: int) -> bytes:
    data = files.read_at(fd, size, start)
    if len(data) < size:
        raise EOFError(f"the log ends at byte {start + len(data)}, {start + size} were expected")
    return data
