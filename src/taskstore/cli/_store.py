"""Which store a command works on, and how it is opened."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import click

from taskstore._format.names import EVOLUTIONS
from taskstore._log.layout import Layout
from taskstore.cli._errors import Failure, Status, hint
from taskstore.cli._output import note, warn
from taskstore.cli._progress import progress
from taskstore.cli._typed import given, quietly
from taskstore.cli._waits import waits_told
from taskstore.errors import StoreNotFoundError

if TYPE_CHECKING:
    # It imports SQLAlchemy, which --help of a command does not need.
    from taskstore._api.driver_store import DriverStore
    from taskstore._api.store import Store
    from taskstore._evolution.names import Names
    from taskstore.errors import CommitNotFoundError

    Readable: TypeAlias = Store | DriverStore

ENVIRONMENT = "TASKSTORE_DIR"
"""The environment variable that names a store."""

P = ParamSpec("P")
R = TypeVar("R")


def store_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the option --store, as its argument `store_path`; see `locate`."""
    return click.option(
        "--store",
        "store_path",
        metavar="PATH",
        type=click.Path(path_type=Path),
        envvar=ENVIRONMENT,
        show_envvar=True,
        # The store says which names a collection has.
        is_eager=True,
        help="The store's directory, or the directory that contains it. By default, the nearest "
        "store in the working directory or a parent directory.",
    )(command)


@quietly
def complete_revision(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the branches and tags that begin as typed, also after the dots of a range."""
    from taskstore._git.repository import Repository

    before, dots, last = incomplete.rpartition("..")
    start = last.removeprefix(".")
    repository = Repository.find(locate(given(ctx, "store_path")))
    if repository is None:
        return []
    call = ("for-each-ref", "--format=%(refname:short)")
    names = ["HEAD", *repository.git.ask(*call).text.split()]
    head = before + dots + last[: len(last) - len(start)]
    return [head + name for name in names if name.startswith(start)]


def at_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the option --at, as its argument `at`."""
    return click.option(
        "--at",
        metavar="REV",
        shell_complete=complete_revision,
        help="As it was in a commit, by any name that git knows (v1.2, main~3, HEAD@{yesterday}), "
        "or at a time such as 2026-01-31T12:00:00Z.",
    )(command)


def reads_store(function: Callable[Concatenate[Readable, P], R]) -> Callable[..., R]:
    """Give a command --store and --at, and the store, opened for reading, as its first argument.

    The command only uses calls that a `DriverStore` has.
    """

    @functools.wraps(function)
    def command(*args: Any, store_path: Path | None, at: str | None, **options: Any) -> R:
        with opened_at(store_path, at) if at else opened_to_read(store_path) as store:
            return function(store, *args, **options)

    return store_option(at_option(command))


def uses_store(
    *, write: bool = False, past: bool = False
) -> Callable[[Callable[Concatenate[Store, P], R]], Callable[..., R]]:
    """Give a command the option --store, and the open store as its first argument.

    Args:
        write: Whether the command writes records; otherwise see `opened`.
        past: Whether it has the option --at and may get the store as it was.
    """

    def decorate(function: Callable[Concatenate[Store, P], R]) -> Callable[..., R]:
        @functools.wraps(function)
        def command(*args: Any, store_path: Path | None, **options: Any) -> R:
            at = options.pop("at") if past else None
            with opened_at(store_path, at) if at else opened(store_path, write=write) as store:
                return function(store, *args, **options)

        return store_option(at_option(command) if past else command)

    return decorate


def locate(path: Path | None) -> Path:
    """Return the store directory at a path, or else the nearest one in a parent directory.

    Raises:
        StoreNotFoundError: There is no store.
    """
    if path is None:
        return Layout.find(Path.cwd(), is_safe=_is_safe)
    inside = path / Layout.NAME
    if path.name != Layout.NAME and inside.is_dir():
        path = inside
    elif not path.is_dir():
        raise StoreNotFoundError(path)
    Layout(path).check_place()
    return path


def names_in(directory: Path) -> Names:
    """Return the names of the collections of a store."""
    from taskstore._evolution.names import Names
    from taskstore._log.evolutions import read_names

    return read_names(Layout(directory)) if has_evolutions(directory) else Names()


def log_of(directory: Path, collection: str) -> str:
    """Return the name of the log of a collection, which may have been renamed."""
    # The imports for names take longer than the rest of a short command.
    return names_in(directory).log_of(collection) if has_evolutions(directory) else collection


def has_evolutions(directory: Path) -> bool:
    """Return whether records of a store may have older shapes. Most stores have no evolutions."""
    return os.path.lexists(Layout(directory).log_name(EVOLUTIONS))


def _is_safe(directory: Path) -> bool:
    from taskstore._git.safety import is_safe  # only for the stores of other users

    return is_safe(directory)


@contextmanager
def opened_to_read(
    path: Path | None, *, refresh: bool = True, warns: bool = True
) -> Iterator[Readable]:
    """Open an existing store for reading, without SQLAlchemy if possible.

    The arguments are those of `opened`.
    """
    from taskstore._store.settings import settings_problems

    directory = locate(path)
    found = None
    if os.access(directory, os.W_OK):
        found = _with_driver(directory, refresh=refresh)
    if found is None:
        with opened(path, refresh=refresh, warns=warns) as store:
            yield store
        return
    with closing(found):
        for problem in settings_problems(Layout(directory)) if warns else ():
            warn(str(problem))
        yield found
        for problem in found.recovered if warns else ():
            warn(str(problem))


def _with_driver(directory: Path, *, refresh: bool) -> DriverStore | None:
    from taskstore._api.driver_store import open_with_driver

    with progress("Reading the logs") as update:
        return open_with_driver(
            Layout(directory),
            functools.partial(opened, directory, refresh=refresh, warns=False),
            refresh=refresh,
            on_progress=lambda _, done, total: update(done, total),
        )


@contextmanager
def opened(
    path: Path | None,
    *,
    write: bool = False,
    refresh: bool = True,
    warns: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Store]:
    """Open an existing store.

    If a command only reads and the directory may not be written, the store is opened read-only,
    with its cache in memory.

    Args:
        path: The value of --store; None to search the parent directories.
        write: Whether records will be written.
        refresh: Whether to read new lines of the logs now.
        warns: Whether to warn on stderr about unusable settings and about what recovery could not
            settle.
        on_progress: Called with the bytes read and to read; by default it shows a bar.
    """
    from taskstore._api.store import Store
    from taskstore._store.settings import settings_problems

    directory = locate(path)
    read_only = not write and not os.access(directory, os.W_OK)
    with waits_told(Layout(directory)):
        with progress("Reading the logs") as bar:
            update = on_progress or bar
            store = Store.open(
                directory,
                create=False,
                read_only=read_only,
                refresh=refresh,
                on_progress=lambda _, done, total: update(done, total),
            )
        with store:
            for problem in settings_problems(Layout(directory)) if warns else ():
                warn(str(problem))
            yield store
            for problem in store._context.recovered if warns else ():
                warn(str(problem))


@contextmanager
def opened_at(path: Path | None, at: str) -> Iterator[Store]:
    """Open a store as it was.

    Args:
        path: The value of --store; None to search the parent directories.
        at: The value of --at.

    Raises:
        Failure: There is no such commit.
    """
    with (
        opened(path, refresh=not isinstance(when_of(at), str)) as store,
        past_of(store, at) as past,
    ):
        yield past


@contextmanager
def past_of(store: Store, at: str) -> Iterator[Store]:
    """Open a store as it was; the arguments are the present store, and the value of --at.

    Raises:
        Failure: There is no such commit.
    """
    from taskstore.errors import CommitNotFoundError

    with progress("Reading the logs") as update:
        try:
            past = store.as_of(
                when_of(at),
                on_progress=lambda _, done, total: update(done, total),
            )
        except CommitNotFoundError as error:
            raise no_commit(error, store.path) from error
    with past:
        yield past


def when_of(text: str) -> str | int:
    """Return the value of --at: a time in milliseconds since the epoch, or a revision."""
    from taskstore._format.instants import parse_instant

    try:
        return parse_instant(text) // 1000
    except ValueError:
        return text


def no_commit(error: CommitNotFoundError, directory: Path) -> Failure:
    """Return the message for a revision that git does not know, with similar names.

    Args:
        error: The error that was raised.
        directory: The directory of the store.
    """
    from taskstore._git.repository import Repository

    repository = Repository.find(directory)
    call = ("for-each-ref", "--format=%(refname:short)")
    refs = [] if repository is None else repository.git.ask(*call).text.split()
    return Failure(f"{error.reason}{hint(error.revision, refs)}", Status.STORE)


def check_collection(store: Readable, name: str) -> str:
    """Return the name of a collection that has a log.

    Raises:
        Failure: It has no log, or the log is not a regular file.
        InvalidNameError: It cannot be the name of a collection.
    """
    from taskstore._format.names import check_collection_name

    layout = Layout(store.path)
    names, _ = layout.collections()
    if check_collection_name(name) not in names:
        check_is_file(layout, name)
        is_past = store._context.past is not None
        makes = "" if names or is_past else f": `taskstore add {name} ...` creates it"
        remedy = hint(name, names) or makes
        raise Failure(f"no collection {name!r} in {place_of(store)}{remedy}")
    return name


def place_of(store: Readable) -> str:
    """Return the name of a store in messages: its directory, and the time of --at."""
    return store._context.past or str(store.path)


def check_is_file(layout: Layout, name: str) -> None:
    """Make sure that a collection with an unusable log does not count as having none.

    Raises:
        Failure: The path of the log is not a regular file.
    """
    path = layout.log_path(name)
    if path.is_symlink():
        message = (
            f"{path} is a symbolic link, but a log must be a regular file, which git can track: "
            "replace it with the file that it points to"
        )
        raise Failure(message, Status.STORE)
    if path.exists() and not path.is_file():
        raise Failure(
            f"{path} is not a regular file, so it is not a log: rename or move it", Status.STORE
        )


def check_new_collection(
    store: Store, name: str, *, new: bool, remedy: str = "--new creates it"
) -> bool:
    """Say on stderr if a collection is new, and return whether it is.

    Args:
        store: The store.
        name: The collection.
        new: Whether its name may be similar to a known one.
        remedy: What allows a similar name, for the message.

    Raises:
        Failure: The name is too similar, or the path of the log is not a regular file.
        InvalidNameError: It cannot be the name of a collection.
    """
    from taskstore._format.names import check_collection_name
    from taskstore._text import slip

    layout = Layout(store.path)
    names, _ = layout.collections()
    if check_collection_name(name) in names:
        return False
    check_is_file(layout, name)
    meant = None if new else slip(name, names)
    if meant is not None:
        message = f"no collection {name!r} yet; did you mean {meant!r}? ({remedy})"
        raise Failure(message, Status.USAGE)
    note(f"{name} is a new collection")
    return True
