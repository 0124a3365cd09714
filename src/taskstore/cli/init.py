"""`taskstore init`: create a store, and install it in git."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import store_option
from taskstore.cli.git import repository_of, show_installation
from taskstore.errors import GitError, StoreNotFoundError


@click.command("init")
@click.option(
    "--types",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="A module with record classes (package.module), which is imported and trusted from then "
    "on: their merge policies are written to config.toml. May be given several times.",
)
@click.option(
    "--hooks/--no-hooks",
    "with_hooks",
    default=None,
    help="Install hooks in git, or none; see `taskstore git install`.",
)
@click.option("--git/--no-git", "with_git", default=True, help="Install in git, or not.")
@json_option
@store_option
def command(
    store_path: Path | None,
    modules: tuple[str, ...],
    with_hooks: bool | None,
    with_git: bool,
    as_json: bool,
) -> None:
    """Create a store, and install it in this clone of its git repository.

    The store is .taskstore in the working directory, unless there is already one here or in a
    parent directory, or --store names another. Run this in a fresh clone too, because git does not
    copy settings and hooks.

    Exit status: 0 done; 3 failed.

    \b
    Example:
      taskstore init --types shop.models
    """
    layout = Layout(_directory(store_path))
    is_new = not layout.directory.is_dir()
    _check_place(layout, is_new=is_new, with_git=with_git)
    layout.create()
    if not as_json:
        verb = "created" if is_new else "found"
        note(f"{verb} the store {layout.directory}")
    written = _write_policies(layout, modules)
    facts = {"store": str(layout.directory), "created": is_new, "written": written}
    if written and not as_json:
        note(f"written to {layout.config_path.name}: {', '.join(written)}")
    if with_git:
        _install(layout, with_hooks, as_json, facts)
    elif as_json:
        _write_without_git(facts)


def _write_without_git(facts: dict[str, Any]) -> None:
    with reporting("the store is there"):
        write_json({**facts, "git": None})


def _directory(store_path: Path | None) -> Path:
    if store_path is not None:
        is_store = store_path.name == Layout.NAME or (store_path / ".version").is_file()
        return (store_path if is_store else store_path / Layout.NAME).absolute()
    try:
        return Layout.find(Path.cwd())
    except StoreNotFoundError:
        return Path.cwd() / Layout.NAME


def _check_place(layout: Layout, *, is_new: bool, with_git: bool) -> None:
    """Refuse a place where a store must not be created.

    Raises:
        Failure: Git has a store there that is not checked out, or it is inside a git directory.
    """
    from taskstore._git.checkout import absent_logs, way_back
    from taskstore._git.repository import Repository

    # Ignore git if it cannot be asked; the installation reports why.
    with contextlib.suppress(GitError):
        repository = Repository.find(layout.directory)
        if repository is None:
            if with_git and Repository.has_no_work_tree(layout.directory):
                raise Failure(
                    f"{layout.directory} would be inside a git directory (a bare repository, or "
                    ".git), whose files git does not track: create the store in a clone",
                    Status.STORE,
                )
            return
        absent = absent_logs(repository, layout.directory)
        if absent and (is_new or any(log.is_left_out for log in absent)):
            raise Failure(
                f"git has a store at {layout.directory} that is not checked out, and a new store "
                "would replace it: check it out with "
                f"`{way_back(repository, layout.directory, absent)}`, then run this again",
                Status.STORE,
            )


def _write_policies(layout: Layout, modules: tuple[str, ...]) -> list[str]:
    if not modules:
        return []
    from taskstore._doctor.policies import write_settings
    from taskstore._doctor.trust import trust_modules
    from taskstore._doctor.types import load_types

    written = write_settings(layout, load_types(modules, folder=Path.cwd()), modules)
    trust_modules(layout, modules)
    return written


def _install(layout: Layout, with_hooks: bool | None, as_json: bool, facts: dict[str, Any]) -> None:
    from taskstore._git.installation import install
    from taskstore._git.repository import Repository

    if Repository.find(layout.directory) is not None:
        repository = repository_of(layout.directory)
        done = install(repository, layout.directory, with_hooks=with_hooks)
        show_installation(repository, layout.directory, done, as_json=as_json, facts=facts)
    elif as_json:
        _write_without_git(facts)
    else:
        note("no git repository here: after `git init`, run `taskstore git install`")
