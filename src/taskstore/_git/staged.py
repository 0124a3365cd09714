"""Check what a commit would add to the logs. The index is read and never written."""

from __future__ import annotations

import stat
from collections import Counter

import attrs

from taskstore._format.lines import LineError, decode_key
from taskstore._format.problems import Problem
from taskstore._git.checkout import lines_of, lost_records
from taskstore._git.objects import blob, is_log, parents_to_be
from taskstore._git.repository import LOGS, Repository
from taskstore._git.run import shown


@attrs.define
class Staged:
    """The problems of the logs in the index.

    Attributes:
        problems: The unusable lines that a commit would add.
        replaced: The names of the logs that the commit would replace, and how many records of each
            it would drop.
    """

    problems: list[Problem] = attrs.field(factory=list)
    replaced: list[tuple[str, int]] = attrs.field(factory=list)


def look_at_staged(repository: Repository) -> Staged:
    """Return the problems that a commit of the index would add to logs.

    Lines that a parent of the commit has already do not count.

    Raises:
        GitError: The index cannot be read.
    """
    parents = parents_to_be(repository)
    found = Staged()
    for name, id in _changed_logs(repository, parents).items():
        before = [_lines_at(repository, parent, name) for parent in parents]
        after = lines_of(blob(repository, id, name))
        known: Counter[bytes] = Counter()
        for lines in before:
            known |= Counter(lines)
        found.problems += _problems(name, after, known)
        if before and (lost := lost_records(before, after)):
            found.replaced.append((name, lost))
    return found


def _lines_at(repository: Repository, commit: str, name: str) -> list[bytes]:
    id = repository.git.ask("rev-parse", "--verify", "--quiet", f"{commit}:{name}")
    return lines_of(blob(repository, id.text, name)) if id.status == 0 else []


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


def _problems(name: str, lines: list[bytes], known: Counter[bytes]) -> list[Problem]:
    found = []
    for number, line in enumerate(lines, 1):
        if known[line] > 0:
            known[line] -= 1
        elif line.strip() and (reason := _fault(line)) is not None:
            found.append(Problem(None, shown(name), number, reason))
    return found


def _fault(line: bytes) -> str | None:
    try:
        decode_key(line)
    except LineError as error:
        return error.reason
    return None
