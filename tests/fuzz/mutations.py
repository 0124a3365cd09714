"""What may have become of a file: flipped, cut, filled, replaced by something that is no file."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

HUGE = 1 << 33
"""The length of a sparse file that nobody may take into memory, in bytes."""

TOKENS = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\n",
    b"\r\n",
    b'"',
    b"{",
    b"[" * 5000,
    b"]",
    b"NaN",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"18446744073709551616",
    b"true",
    b"null",
    b"../../x",
    b"\\ud800",
    b"\\u0000",
    b"<<<<<<< HEAD\n",
    b"9999-99-99T99:99:99Z",
)

Mutation = Callable[[Path, random.Random, Path], None]


def _bytes(change: Callable[[bytearray, random.Random], None]) -> Mutation:
    def mutate(path: Path, chance: random.Random, outside: Path) -> None:
        data = bytearray(path.read_bytes()) if path.is_file() else bytearray()
        change(data, chance)
        path.write_bytes(data)

    return mutate


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 1, 2, 8, 64))):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    size = chance.choice((1, 4, 16, 512, 4096))
    data[at : at + size] = chance.randbytes(min(size, len(data) - at))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.choice((1, 2, 10, 100))]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    part = bytes(data[at : at + chance.choice((1, 20, 300))])
    data[at:at] = part * chance.choice((1, 2, 50))


def _insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.choice(TOKENS)


def _replace_number(data: bytearray, chance: random.Random) -> None:
    places = [at for at, byte in enumerate(data) if 48 <= byte <= 57]
    if places:
        at = chance.choice(places)
        data[at : at + 1] = chance.choice((b"0", b"-5", b"7" * 30, b"1.5", b'"1"', b"[]"))


def _fill(data: bytearray, chance: random.Random) -> None:
    data[:] = chance.choice((b"", b"\0" * 4096, b"a" * 70_000, b"SQLite format 3\0", b"[]\n"))


def _cleared(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(path: Path, chance: random.Random, outside: Path) -> None:
    _cleared(path)
    names = ("precious", "precious.db", "nowhere", "folder", path.name)
    target = outside / chance.choice(names)
    path.symlink_to(path.name if target.name == path.name else target)


def _pipe(path: Path, chance: random.Random, outside: Path) -> None:
    _cleared(path)
    os.mkfifo(path)


def _folder(path: Path, chance: random.Random, outside: Path) -> None:
    _cleared(path)
    path.mkdir()
    (path / "file").write_text("theirs")


def _sparse(path: Path, chance: random.Random, outside: Path) -> None:
    if path.is_file():
        os.truncate(path, HUGE)


MUTATIONS: tuple[tuple[str, Mutation, int], ...] = (
    ("flip", _bytes(_flip), 20),
    ("overwrite", _bytes(_overwrite), 10),
    ("cut", _bytes(_cut), 8),
    ("remove", _bytes(_remove), 8),
    ("repeat", _bytes(_repeat), 8),
    ("insert", _bytes(_insert), 14),
    ("number", _bytes(_replace_number), 14),
    ("fill", _bytes(_fill), 6),
    ("link", _link, 6),
    ("pipe", _pipe, 3),
    ("folder", _folder, 3),
)
"""Name, mutation and weight."""

SPARSE: tuple[str, Mutation] = ("sparse", _sparse)
"""For small files: reading a log takes as long as it is."""
