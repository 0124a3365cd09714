"""Checks of a store's installation in git."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from taskstore._doctor.conflicts import Conflict
from taskstore._doctor.findings import ERROR, INFO, WARNING, Finding
from taskstore._format.names import CONSUMERS
from taskstore._git import files, objects
from taskstore._git.attributes import of_clone, of_store
from taskstore._git.checkout import absent_logs, replaced_logs, way_back
from taskstore._git.repository import Repository
from taskstore._git.run import shown
from taskstore._git.status import Status, look
from taskstore._log.layout import Layout
from taskstore.errors import GitError

_INSTALL = "taskstore git install"
_FIX = "taskstore doctor --fix"


def check_git(layout: Layout, repository: Repository | GitError | None) -> Iterator[Finding]:
    """Yield the problems of a store in its repository.

    Args:
        layout: The store directory.
        repository: The repository; None if there is none, or why that is unknown.

    Raises:
        GitError: Git cannot be asked.
    """
    if isinstance(repository, GitError):
        meaning = "the state of the store in git is unknown"
        yield Finding("git", WARNING, str(repository), meaning, "follow the message")
        return
    if repository is None and Repository.has_no_work_tree(layout.directory):
        yield Finding(
            "git",
            WARNING,
            f"{layout.directory} is in a directory of git's own",
            "git tracks no file there: the logs have no history, and nothing is merged",
            "move the store into the work tree of a clone",
        )
        return
    if repository is None:
        yield Finding(
            "git",
            INFO,
            f"{layout.directory} is not in a git repository",
            "the logs have no history, and nothing is merged",
            "git init, then taskstore git install",
        )
        return
    yield from _embedded(layout, repository)
    if layout.directory.name != Layout.NAME:
        yield Finding(
            "name",
            WARNING,
            f"{layout.directory} is not called {Layout.NAME}",
            "the merge driver and the hooks know a store by this name, and leave any other alone",
            f"rename the directory to {Layout.NAME}",
        )
        return
    faults = [*_files(layout, repository)]
    yield from faults
    if not faults:
        status = look(repository, layout.directory)
        yield from _attributes(status)
        yield from _driver(status)
        yield from _hooks(status)
    yield from _checkout(layout, repository)
    yield from _tracking(layout, repository)
    yield from _line_ends(layout.directory, repository)


def _embedded(layout: Layout, repository: Repository) -> Iterator[Finding]:
    for folder in repository.embedded(layout.directory):
        name = shlex.quote(shown(repository.name_of(folder)))
        yield Finding(
            "embedded",
            ERROR,
            f"{shown(folder)} is a git repository of its own, inside of {shown(repository.top)}",
            "git, run in that directory, believes its configuration, which can start any program; "
            "Taskstore runs git outside of it",
            "git config --global safe.bareRepository explicit; then, in "
            f"{shown(repository.top)}, remove what makes it a repository: "
            f"git rm -r --ignore-unmatch -- {name}/HEAD {name}/config {name}/objects {name}/refs",
        )


def _files(layout: Layout, repository: Repository) -> Iterator[Finding]:
    """Yield the attributes files that cannot be read or written."""
    for lines in (of_store(layout.directory), of_clone(repository.common_dir)):
        what, _, remedy = (files.fault(lines.path) or "").partition(": ")
        if what:
            yield Finding(
                "attributes-file",
                ERROR,
                f"{shown(lines.path)}: {what}",
                "git may treat the logs as any other files: a merge leaves conflict markers, or "
                "line ends or values change",
                remedy,
            )


def _attributes(status: Status) -> Iterator[Finding]:
    for path in status.overridden:
        of_clone = path == status.clone_lines.path
        wrong = _list_wrong(status.attributes if of_clone else status.unsaid)
        yield Finding(
            "attributes",
            WARNING,
            f"git does not treat the logs as logs: {wrong}, below our lines in {shown(path)}",
            f"a merge leaves conflict markers, or line ends or values change; {_where(of_clone)}",
            f"edit {shown(path)}: the last matching line counts",
        )
    if status.lacks_store_lines:
        yield Finding(
            "attributes",
            WARNING,
            f"git does not treat the logs as logs: {_list_wrong(status.unsaid)}",
            "a merge leaves conflict markers, or line ends or values change; "
            + _where(of_clone=False),
            f"{_INSTALL}, then commit .taskstore/.gitattributes",
            is_safe=True,
        )
    # If nothing is installed, the missing driver is enough to report.
    if status.lacks_clone_lines and not status.settings:
        yield Finding(
            "clone-attributes",
            WARNING,
            f"{shown(status.clone_lines.path)} does not name the logs",
            "a merge leaves conflict markers on a branch from before the installation, or in a "
            "sparse checkout",
            _INSTALL,
            is_safe=True,
        )


def _list_wrong(attributes: Mapping[str, str]) -> str:
    return ", ".join(f"{key} is {value}" for key, value in attributes.items())


def _where(of_clone: bool) -> str:
    return "in this clone" if of_clone else "where nothing is installed"


def _driver(status: Status) -> Iterator[Finding]:
    if status.settings:
        message = f"the merge driver is not configured in this clone: {', '.join(status.settings)}"
    elif not status.has_python:
        message = f"the merge driver is inert: Python is missing at {shown(status.python or '-')}"
    else:
        return
    yield Finding(
        "driver",
        WARNING,
        message,
        "git merges logs by line here: of two edits of a record, only the newer one counts",
        _INSTALL,
        is_safe=True,
    )


def _hooks(status: Status) -> Iterator[Finding]:
    missing = status.missing_hooks
    if not missing:
        return
    meaning = (
        "the store sees changes by git only at its next open, and a commit may add conflict markers"
    )
    if status.owner is not None:
        what = f"{status.owner.tool} owns the hooks, and does not call Taskstore in: "
        remedy = f"{_INSTALL} prints the lines to add"
    elif status.hooks_dir is None:
        what = "core.hooksPath switches the hooks off: "
        remedy = "git config --unset core.hooksPath, if that was not meant"
    else:
        what = f"missing, overwritten or not executable in {shown(status.hooks_dir)}: "
        remedy = _INSTALL
    is_safe = remedy == _INSTALL
    yield Finding("hooks", WARNING, what + ", ".join(missing), meaning, remedy, is_safe=is_safe)


def _checkout(layout: Layout, repository: Repository) -> Iterator[Finding]:
    absent = absent_logs(repository, layout.directory)
    if absent:
        left_out = any(log.is_left_out for log in absent)
        why = "git leaves out" if left_out else "the work tree lacks"
        yield Finding(
            "absent",
            ERROR,
            f"{why} {', '.join(shown(log.name) for log in absent)}",
            "the records in git are not served; what you write here starts another log, and a "
            "commit would replace the old one with it",
            way_back(repository, layout.directory, absent)
            + ("" if left_out else "; or, if that was meant, commit the removal"),
        )
    for name, lost in replaced_logs(repository, layout.directory):
        old, new = shlex.quote(shown(name)), shlex.quote(shown(f"{name}.tmp"))
        yield Finding(
            "replaced",
            ERROR,
            f"{shown(name)} was started over: {lost} record(s) that it has in git are not in it",
            "a commit would drop them; to join both logs, put the new lines after the old ones",
            f"in {shown(repository.top)}: git cat-file blob HEAD:{old} >{new} && "
            f"cat {old} >>{new} && mv {new} {old}",
        )


def _tracking(layout: Layout, repository: Repository) -> Iterator[Finding]:
    names, _ = layout.collections()
    folder = repository.name_of(layout.directory)
    logs = [f"{folder}/{name}.jsonl" for name in names if name != CONSUMERS]
    ignored = repository.ignored(logs)
    if ignored:
        yield Finding(
            "ignored",
            ERROR,
            f"git ignores {', '.join(map(shown, ignored))}",
            "these records are on this machine only",
            f"remove the pattern that `git check-ignore -v {shown(ignored[0])}` names",
        )
    caches = [f"{repository.name_of(layout.directory)}/{name}" for name in layout.IGNORED[:3]]
    tracked = repository.git.run("ls-files", "-z", "--", *caches).fields
    if tracked:
        yield Finding(
            "tracked-cache",
            WARNING,
            f"git tracks the cache: {', '.join(map(shown, tracked))}",
            "every command changes it, and it conflicts in every merge",
            f"git rm --cached {' '.join(map(shown, tracked))}",
        )


def _line_ends(directory: Path, repository: Repository) -> Iterator[Finding]:
    folder = repository.name_of(directory)
    entries = repository.git.run("ls-files", "--eol", "-z", "--", f"{folder}/").fields
    found = [
        name
        for facts, _, name in (entry.partition("\t") for entry in entries)
        if facts.split()[0] in ("i/crlf", "i/mixed") and objects.is_log(name)
    ]
    if found:
        yield Finding(
            "line-ends",
            WARNING,
            f"committed with CRLF: {', '.join(map(shown, found))}",
            "git shows these logs as changed, and may refuse to switch branches",
            f"git add --renormalize -- {shown(folder)}, and commit",
        )


def check_conflicts(found: Iterable[Conflict]) -> Iterator[Finding]:
    """Yield the logs that a merge left in conflict."""
    for log in found:
        why = ", which one side deleted and the other changed" if log.is_deleted else ""
        what = "all that the other side has" if log.is_deleted else "the lines of both sides"
        name = shlex.quote(shown(log.name))
        meaning = f"the store reads {what}, and git waits for a decision"
        remedy = _FIX
        if not log.is_open:
            meaning = "the store reads the lines; somebody has started to resolve it"
            remedy = f"finish the edit, then git add {name}"
        yield Finding(
            "conflict",
            ERROR,
            f"a merge left {shown(log.name)} in conflict{why}",
            meaning,
            remedy,
            is_safe=log.is_open,
        )
