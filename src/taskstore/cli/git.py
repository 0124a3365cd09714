"""`taskstore git`: install Taskstore in a clone, uninstall it, and show what is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, warn, write, write_json
from taskstore.cli._store import locate, store_option

if TYPE_CHECKING:
    from taskstore._api.store import Store
    from taskstore._git.installation import Done
    from taskstore._git.repository import Repository
    from taskstore._git.status import Status as GitStatus


@click.group("git")
def command() -> None:
    """Merge, diff and check the logs of this clone by record.

    \b
    Example:
      taskstore git install
    """


def repository_of(directory: Path) -> Repository:
    """Return the repository that a store is in.

    Raises:
        Failure: It is not in a repository, or its name is not the one that git looks for.
    """
    from taskstore._git.repository import Repository

    if directory.absolute().name != Layout.NAME:
        raise Failure(
            f"git merges logs by record only in {Layout.NAME}: rename {directory} to that",
            Status.STORE,
        )
    found = Repository.find(directory)
    if found is None and Repository.has_no_work_tree(directory):
        raise Failure(
            f"{directory} is inside a git directory (a bare repository, or .git), which has no "
            "work tree to merge in: work in a clone",
            Status.STORE,
        )
    if found is None:
        raise Failure(
            f"{directory} is not in a git repository: create one with `git init`, "
            "then run this again",
            Status.STORE,
        )
    return found


@command.command("install", short_help="Install what git needs in this clone.")
@click.option(
    "--hooks/--no-hooks",
    "with_hooks",
    default=None,
    help="Install hooks, or none. By default they are left to a tool that owns them (husky, "
    "lefthook, pre-commit, a shared core.hooksPath), and the lines to add are printed.",
)
@json_option
@store_option
def install(store_path: Path | None, with_hooks: bool | None, as_json: bool) -> None:
    """Install the attributes, the merge driver, the textconv and the hooks.

    Run this once in every clone. Your own hooks stay and still run.

    Exit status: 0 installed, also if something is left for you to do; 3 failed.

    \b
    Example:
      taskstore git install
    """
    from taskstore._git.installation import install as put_in

    directory = locate(store_path)
    repository = repository_of(directory)
    done = put_in(repository, directory, with_hooks=with_hooks)
    show_installation(repository, directory, done, as_json=as_json)


def show_installation(
    repository: Repository,
    directory: Path,
    done: Done,
    *,
    as_json: bool,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Print what an installation did, and what you must do yourself.

    Args:
        repository: The clone.
        directory: The store.
        done: What was done.
        as_json: Whether to print JSON.
        facts: The first keys of the JSON.
    """
    from taskstore._git.status import look

    status = look(repository, directory)
    with reporting("what could be installed was installed"):
        if as_json:
            report = {"changed": done.changed, "left": done.left, "status": status.to_dict()}
            write_json(report if facts is None else {**facts, "git": report})
            return
        for line in _grouped(done.changed):
            note(f"installed: {line}")
        if not done.changed:
            note("nothing to install" if status.ok else "nothing more to install")
        for part in done.left:
            warn(f"not installed: {part}")
        _show_lines(status)


def _grouped(parts: Sequence[str]) -> Iterator[str]:
    """Yield parts of an installation joined into two lines: the hooks, and all others."""
    prefix = "the hook "
    hooks = [part.removeprefix(prefix) for part in parts if part.startswith(prefix)]
    others = [part for part in parts if not part.startswith(prefix)]
    if others:
        yield ", ".join(others)
    if hooks:
        yield f"the hook{'s' if len(hooks) > 1 else ''} {', '.join(hooks)}"


def _show_lines(status: GitStatus) -> None:
    to_add = status.lines_to_add
    if status.owner is None or not to_add:
        return
    files = dict.fromkeys(item["file"] for item in to_add)
    for file in files:
        note("")
        note(f"add to {file}:")
        # Lines for a JSON file are members of an object.
        between = ",\n" if file.endswith(".json") else "\n"
        text = between.join(item["text"] for item in to_add if item["file"] == file)
        for row in text.split("\n"):
            write(row)
    if status.owner.after:
        note("")
        note(f"then run: {status.owner.after}")


@command.command("uninstall", short_help="Remove what was installed.")
@json_option
@store_option
def uninstall(store_path: Path | None, as_json: bool) -> None:
    """Remove what `install` added to this clone, and restore what was there before.

    The store, its logs and committed attributes stay as they are.

    Exit status: 0 done; 3 failed.

    \b
    Example:
      taskstore git uninstall
    """
    from taskstore._git.installation import uninstall as take_out

    directory = locate(store_path)
    done = take_out(repository_of(directory), directory)
    if as_json:
        with reporting("what was installed was removed"):
            write_json({"changed": done.changed, "left": done.left})
        return
    for line in _grouped(done.changed):
        note(f"removed: {line}")
    if not done.changed:
        note("nothing was installed")
    for part in done.left:
        note(f"left: {part}")


@command.command("status")
@json_option
@store_option
def status(store_path: Path | None, as_json: bool) -> None:
    """Show what is installed in this clone.

    Exit status: 0 everything is installed; 1 something is missing; 3 failed.

    \b
    Example:
      taskstore git status --json | jq .driver
    """
    from taskstore._git.run import shown
    from taskstore._git.status import look

    directory = locate(store_path)
    found = look(repository_of(directory), directory)
    if as_json:
        write_json(found.to_dict())
    else:
        for row in _rows(found):
            write(row)
        _show_lines(found)
    if not found.ok:
        for path in found.overridden:
            note(f"edit {shown(path)}: lines below ours override them")
        if found.is_installable:
            note("run `taskstore git install`")
        click.get_current_context().exit(Status.NO)


def _rows(found: GitStatus) -> list[str]:
    rows = [f"attributes: {_differences(found.unsaid) or 'ok'}"]
    if found.attributes:
        rows.append(f"attributes in this clone: {_differences(found.attributes)}")
    else:
        missing = found.lacks_clone_lines
        rows.append(f"attributes in this clone: {'missing' if missing else 'ok'}")
    if found.settings:
        rows.append(f"merge driver: not configured in this clone ({', '.join(found.settings)})")
    elif not found.has_python:
        rows.append(f"merge driver: inert, Python is missing at {found.python}")
    else:
        rows.append(f"merge driver: ok, run by {found.python}")
    for hook, is_there in found.hooks.items():
        rows.append(f"hook {hook}: {'ok' if is_there else _why_not(found)}")
    return rows


def _differences(attributes: Mapping[str, str]) -> str:
    return "; ".join(f"{key} is {value}" for key, value in attributes.items())


def _why_not(found: GitStatus) -> str:
    if found.owner is not None:
        return f"missing; {found.owner.tool} owns the hooks"
    if found.hooks_dir is None:
        return "switched off by core.hooksPath"
    return f"missing in {found.hooks_dir}"


@command.command(
    "hook", hidden=True, short_help="Run a hook.", context_settings={"ignore_unknown_options": True}
)
@click.argument("name")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def hook(name: str, arguments: tuple[str, ...]) -> None:
    """Run what a git hook should do. The installed hooks call this.

    `pre-commit` refuses a commit that would add unusable lines or conflict markers to a log, or
    replace a log with a new one. It reads the index and changes nothing. All other hooks update the
    caches of the repository's stores, without output.

    Exit status: 0; 1 if the commit is refused.

    \b
    Example:
      taskstore git hook pre-commit
    """
    from taskstore._git.repository import Repository

    repository = Repository.around(Path.cwd())
    if repository is None:
        return
    if name == "pre-commit":
        _check_staged(repository)
    elif name != "post-checkout" or _may_have_changed(repository, arguments):
        _refresh(repository)


def _may_have_changed(repository: Repository, arguments: tuple[str, ...]) -> bool:
    """Return whether a checkout can have changed a log. Most switches of a branch change none."""
    from taskstore._git.objects import logs_differ

    if len(arguments) != 3 or arguments[2] != "1":
        return True  # a checkout of files
    return logs_differ(repository, arguments[0], arguments[1])


def _check_staged(repository: Repository) -> None:
    from taskstore._git.run import shown
    from taskstore._git.staged import look_at_staged

    found = look_at_staged(repository)
    for problem in found.problems:
        note(f"{problem}")
    for name, lost in found.replaced:
        note(
            f"{shown(name)}: replaced by another log that lacks {lost} record(s) of the log in git"
        )
    if found.problems:
        raise Failure(
            f"{len(found.problems)} unusable line(s) would be committed: fix or remove them, "
            "`git add` the file, and commit again (`git commit --no-verify` commits them as they "
            "are)"
        )
    if found.replaced:
        raise Failure(
            f"{len(found.replaced)} log(s) would be replaced by a new one, for example because a "
            "sparse checkout left out the store: `taskstore doctor` says how to "
            "join the two (`git commit --no-verify` drops the old one)"
        )


def _refresh(repository: Repository) -> None:
    from taskstore.errors import TaskstoreError

    for directory in repository.stores():
        # Without a cache there is nothing to update; the first open makes one.
        if not Layout(directory).cache_path.exists():
            continue
        try:
            _bring_up(directory)
        except TaskstoreError as error:
            warn(f"{error}")


def _bring_up(directory: Path) -> None:
    from taskstore._api.driver_store import open_with_driver

    def ordinary() -> Store:
        from taskstore._api.store import Store

        return Store.open(directory, create=False, lock_timeout=_PATIENCE)

    with closing(open_with_driver(Layout(directory), ordinary) or ordinary()):
        pass


_PATIENCE = 5.0
"""How long a hook waits for another program, in seconds; the next open of the store does not."""
