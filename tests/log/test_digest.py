"""The keyed digest of a log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._log import files
from taskstore._log.digest import Digester

BLOCK = 64 * 1024
LONG = 4 * 1024 * 1024
DIGESTER = Digester(b"k" * 32)
LENGTHS = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 4 * BLOCK, 5 * BLOCK + 7]

Opened = Callable[[bytes], int]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Makes files of some bytes, open for reading and writing."""
    made: list[int] = []

    def make(data: bytes) -> int:
        path = tmp_path / str(len(made))
        path.write_bytes(data)
        made.append(os.open(path, os.O_RDWR))
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


def content(size: int) -> bytes:
    """So many bytes, no two blocks the same."""
    return b"".join(b"%015d\n" % number for number in range(-(-size // 16)))[:size]


def text_of(data: bytes, digester: Digester = DIGESTER) -> str:
    """The digest of some bytes that are added at once."""
    digest = digester.begin()
    digest.update(data)
    return digest.text()


@given(st.lists(st.sampled_from([0, 1, 11, BLOCK - 11, BLOCK, 3 * BLOCK + 5]), max_size=5))
def test_it_is_the_same_in_parts_and_at_once(sizes: list[int]) -> None:
    """However bytes are divided when they are added, their digest is the same."""
    data = content(sum(sizes))
    digest, at = DIGESTER.begin(), 0
    for size in sizes:
        digest.update(data[at : at + size])
        at += size
    assert text_of(data) == digest.text()
    assert len(data) == digest.size


@pytest.mark.parametrize("size", [*LENGTHS, LONG, LONG + 4 * BLOCK, LONG + BLOCK + 9])
def test_a_log_is_read_to_the_same_digest(opened: Opened, size: int) -> None:
    """Read from a log, by one thread or two, it is that of the bytes."""
    data = content(size)
    assert text_of(data) == DIGESTER.read(opened(data + b"and more"), size).text()


@pytest.mark.parametrize("start", LENGTHS)
@pytest.mark.parametrize("more", [1, 300, BLOCK, 2 * BLOCK + 1])
def test_it_is_carried_forward(opened: Opened, start: int, more: int) -> None:
    """From what was recorded and the last block one comes to the digest of the longer log."""
    data = content(start + more)
    digest = DIGESTER.resume(opened(data), start, text_of(data[:start]))
    assert digest is not None
    digest.update(data[start:])
    assert text_of(data) == digest.text()


def test_to_carry_it_forward_costs_a_block(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the log, less than a block of it is read."""
    data = content(LONG + BLOCK - 1)
    fd, read = opened(data), []
    real = files.read_at

    def counting(fd: int, size: int, offset: int) -> bytes:
        read.append(size)
        return real(fd, size, offset)

    text = text_of(data)
    monkeypatch.setattr(files, "read_at", counting)
    assert DIGESTER.resume(fd, len(data), text) is not None
    assert [BLOCK - 1] == read


@pytest.mark.parametrize("at", [-1, -BLOCK + 1])
def test_other_bytes_in_the_last_block_are_not_carried_forward(opened: Opened, at: int) -> None:
    """A last block that is not what was recorded is noticed."""
    data = bytearray(content(3 * BLOCK - 1))
    text = text_of(bytes(data))
    data[at] ^= 1
    assert DIGESTER.resume(opened(bytes(data)), len(data), text) is None


def test_a_digest_of_another_length_is_not_carried_forward(opened: Opened) -> None:
    """The length that was recorded with a digest is that of its bytes, or it is refused."""
    data = bytes(2 * BLOCK + 5)
    assert DIGESTER.resume(opened(data), BLOCK + 5, text_of(data)) is None


@pytest.mark.parametrize("size", LENGTHS)
def test_another_key_gives_another_digest(opened: Opened, size: int) -> None:
    """What was recorded under another key is not that of the same bytes, and not carried on."""
    other, data = Digester(b"o" * 32), content(size)
    text = text_of(data, other)
    assert text_of(data) != text
    assert DIGESTER.resume(opened(data), size, text) is None


@pytest.mark.parametrize("size", [1, BLOCK, LONG + 3 * BLOCK])
def test_any_other_byte_gives_another_digest(opened: Opened, size: int) -> None:
    """One bit anywhere, a byte more or less, and blocks in another order are all noticed."""
    data = content(size)
    others = [data[:-1], data + b"\0", data[BLOCK:] + data[:BLOCK], b"\0" * size]
    others += [
        data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for at in {0, size // 3, size // 2, size - 1}
    ]
    digests = {DIGESTER.read(opened(other), len(other)).text() for other in others if other != data}
    assert text_of(data) not in digests


@pytest.mark.parametrize("text", ["", "0", "zz", "é" * 128, "00" * 32, "00" * 64, "00" * 99])
def test_what_is_no_digest_is_not_carried_forward(opened: Opened, text: str) -> None:
    """Whatever the cache has in place of a digest, it is not taken for one."""
    assert DIGESTER.resume(opened(b"abc"), 3, text) is None


@pytest.mark.parametrize("missing", [1, BLOCK, 4 * BLOCK, 5 * BLOCK, LONG])
def test_a_log_that_is_too_short_raises(opened: Opened, missing: int) -> None:
    """Wherever the log ends before it should, in the part of either thread, that is an error."""
    size = LONG + 8 * BLOCK + 5
    fd = opened(content(size - missing))
    with pytest.raises(EOFError):
        DIGESTER.read(fd, size)
    with pytest.raises(EOFError):
        DIGESTER.resume(fd, size, "00" * 64)


def test_a_system_without_more_threads_gets_the_digest_too(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no second thread can be started, one does all of it."""

    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    data = content(LONG + BLOCK)
    monkeypatch.setattr(Thread, "start", refuse)
    assert text_of(data) == DIGESTER.read(opened(data), len(data)).text()
