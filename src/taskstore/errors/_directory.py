"""Errors of the store directory, its locks and its cache."""

from __future__ import annotations

from os import PathLike, fspath
from os.path import dirname
from shlex import quote

from taskstore.errors._base import TaskstoreError


class StoreNotFoundError(TaskstoreError, LookupError):
    """No store directory at, or above, the given path."""

    path: str

    def __init__(self, path: str | PathLike[str], *, searched_upwards: bool = False) -> None:
        where = "at or above" if searched_upwards else "at"
        super().__init__(
            f"no store {where} {fspath(path)!r}: create one with Store.open(path), "
            "or name the directory that contains it",
            path=fspath(path),
        )


class StoreOwnerError(TaskstoreError, PermissionError):
    """The nearest store belongs to another user, so its content is not trusted."""

    path: str
    owner: int

    def __init__(self, path: str | PathLike[str], *, owner: int) -> None:
        parent = dirname(fspath(path))
        super().__init__(
            f"the store at {fspath(path)!r} belongs to another user (id {owner}): if you trust "
            f"them, run `git config --global --add safe.directory {quote(parent)}`, or name the "
            "store itself, with --store or Store.open(path)",
            path=fspath(path),
            owner=owner,
        )


class StoreVersionError(TaskstoreError):
    """The directory was written by a newer Taskstore."""

    path: str
    found: str
    supported: int

    def __init__(self, path: str | PathLike[str], *, found: str, supported: int) -> None:
        super().__init__(
            f"{fspath(path)}: store version {found[:80]!r} is not supported (this library reads up "
            f"to {supported}): "
            + (
                "upgrade it with `pip install --upgrade taskstore`"
                if found.isdecimal()
                else f"the file .version is damaged: restore it, or write {supported} to it"
            ),
            path=fspath(path),
            found=found,
            supported=supported,
        )


class ConfigError(TaskstoreError, ValueError):
    """The settings in config.toml cannot be used, or a program cannot change them."""

    path: str
    reason: str

    def __init__(self, path: str | PathLike[str], *, reason: str) -> None:
        super().__init__(f"{fspath(path)}: {reason}", path=fspath(path), reason=reason)


class StoreClosedError(TaskstoreError):
    """A call on a store after `close()`."""

    path: str

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(
            f"the store at {fspath(path)!r} is closed: open it again with Store.open",
            path=fspath(path),
        )


class StoreReadOnlyError(TaskstoreError):
    """A write on a store or a session that was opened for reading."""

    path: str
    operation: str

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        operation: str,
        remedy: str = "open it without read_only=True to write",
    ) -> None:
        super().__init__(
            f"cannot {operation}: the store at {fspath(path)!r} was opened read-only; {remedy}",
            path=fspath(path),
            operation=operation,
        )


class StoreAccessError(TaskstoreError, OSError):
    """The operating system refused a file of the store."""

    path: str
    operation: str
    reason: str

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        operation: str,
        reason: str,
        errno: int | None = None,
        remedy: str = "check that the path is right and that its permissions and the disk allow it "
        "(read_only=True reads without writing)",
    ) -> None:
        super().__init__(
            f"cannot {operation} {fspath(path)!r}: {reason}; {remedy}",
            path=fspath(path),
            operation=operation,
            reason=reason,
        )
        self.errno = errno


class LockTimeoutError(TaskstoreError, TimeoutError):
    """Another writer held a lock of the store for longer than `lock_timeout`."""

    path: str
    timeout: float

    def __init__(self, path: str | PathLike[str], *, timeout: float, lock: str) -> None:
        super().__init__(
            f"{fspath(path)}: the {lock} was held by another writer for more than {timeout:g} s; "
            "try again, or give Store.open a longer lock_timeout",
            path=fspath(path),
            timeout=timeout,
            lock=lock,
        )


class CacheError(TaskstoreError):
    """The cache cannot be used and could not be rebuilt."""

    path: str
    reason: str
    is_shared: bool

    def __init__(self, path: str | PathLike[str], *, reason: str, is_shared: bool = False) -> None:
        remedy = (
            "close the store and open it again with migrate=True, which makes tables that are "
            "missing; do not delete the database, which is the application's own"
            if is_shared
            else "close the programs that use the store, delete the cache, and open the store again"
        )
        super().__init__(
            f"{fspath(path)}: the cache is unusable ({reason}); the log is not touched: {remedy}",
            path=fspath(path),
            reason=reason,
            is_shared=is_shared,
        )


class SchemaVersionError(TaskstoreError):
    """The database has a schema revision that this library does not know."""

    found: str
    expected: str

    def __init__(self, *, found: str, expected: str) -> None:
        super().__init__(
            f"the schema revision {found!r} is unknown (this library's newest is {expected!r}): "
            "name a known revision, or upgrade this library; the store's own cache file can also "
            "be deleted, and is rebuilt from the logs",
            found=found,
            expected=expected,
        )


class MigrationRequiredError(TaskstoreError):
    """The application's database lacks the current schema, and `migrate` is not true."""

    found: str | None
    expected: str
    prefix: str

    def __init__(self, *, found: str | None, expected: str, prefix: str = "") -> None:
        prefixed = f', prefix="{prefix}"' if prefix else ""
        call = "capture(op, mirrors" if expected == "outbox" else f'upgrade(op, "{expected}"'
        super().__init__(
            f"the database has Taskstore schema {found!r} and needs {expected!r}: run your "
            "application's `alembic upgrade head` with a revision that calls "
            f"taskstore.migrations.{call}{prefixed}), or open with migrate=True",
            found=found,
            expected=expected,
            prefix=prefix,
        )
