"""What a commit would bring into the logs. The index is read, and never written."""

from __future__ import annotations

import stat
from collections import Counter

from taskstore._format.lines import LineError, decode_key
from taskstore._format.problems import Problem
from taskstore._git.objects import blob, is_log, parents_to_be
from taskstore._git.repository import LOGS, Repository
from taskstore._git.run import shown

__all__ = ["staged_problems"]

_BOM = b"\xef\xbb\xbf"


def staged_problems(repository: Repository) -> list[Problem]:
    """Return the unusable lines that a commit of the index would add to logs.

    Lines that a parent of the commit has already are not its doing, and do not count.

    Raises:
        GitError: The index cannot be read.
    """
    parents = parents_to_be(repository)
    found = []
    for name, id in _changed_logs(repository, parents).items():
        known: Counter[bytes] = Counter()
        for parent in parents:
            before = repository.git.ask("rev-parse", "--verify", "--quiet", f"{parent}:{name}")
            if before.status == 0:
                known |= Counter(_lines(blob(repository, before.text, name)))
        found += _problems(name, blob(repository, id, name), known)
    return found


def _changed_logs(repository: Repository, parents: list[str]) -> dict[str, str]:
    """Return the blobs in the index of the logs that differ from the first parent."""
    if not parents:
        entries = repository.git.run("ls-files", "-s", "-z", "--", LOGS, literal=False).fields
        pairs = [entry.split("\t", 1) for entry in entries]
        facts = {name: (fact.split(" ")[0], fact.split(" ")[1]) for fact, name in pairs}
    else:
        call = ("diff-index", "--cached", "--no-renames", "--diff-filter=AMT", "-z", parents[0])
        fields = repository.git.run(*call, "--", LOGS, literal=False).fields
        facts = {
            name: (fact.split(" ")[1], fact.split(" ")[3])
            for fact, name in zip(fields[::2], fields[1::2], strict=True)
        }
    return {
        name: id
        for name, (mode, id) in facts.items()
        if stat.S_ISREG(int(mode, 8)) and is_log(name)
    }


def _problems(name: str, data: bytes, known: Counter[bytes]) -> list[Problem]:
    found = []
    for number, line in enumerate(_lines(data), 1):
        if known[line] > 0:
            known[line] -= 1
        elif line.strip() and (reason := _fault(line)) is not None:
            found.append(Problem(None, shown(name), number, reason))
    return found


def _lines(data: bytes) -> list[bytes]:
    lines = data.removeprefix(_BOM).split(b"\n")
    return [line.removesuffix(b"\r") for line in lines] if b"\r" in data else lines


def _fault(line: bytes) -> str | None:
    try:
        decode_key(line)
    except LineError as error:
        return error.reason
    return None
