"""`taskstore merge`: the driver that git calls to merge a log."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from taskstore._format.names import check_collection_name
from taskstore._merge.report import lines_of
from taskstore._merge.three_way import merge_logs
from taskstore.errors import InvalidNameError, TaskstoreError

__all__ = ["command"]

_MERGED, _LEFT, _FAILED = 0, 1, 2
_STORE = ".taskstore"


class _DriverError(Exception):
    """The merge cannot be done; the message says why."""


@click.command(
    "merge",
    # A path that begins with a dash is a path.
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("ours", type=click.Path(path_type=Path))
@click.argument("theirs", type=click.Path(path_type=Path))
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.pass_context
def command(ctx: click.Context, base: Path, ours: Path, theirs: Path, path: Path | None) -> None:
    """Merge the changes from BASE to THEIRS into OURS.

    PATH is the log's name in the repository; its directory has the config.toml with the merge
    policies. Git calls this as `taskstore merge %O %A %B %P`. A PATH that is no log of a store is
    passed on to `git merge-file --union`.

    Exit status: 0 merged; 1 merged as far as possible, a person has to decide the rest; 2 failed,
    OURS is untouched.

    \b
    Example:
      taskstore merge base.jsonl ours.jsonl theirs.jsonl .taskstore/plans.jsonl
    """
    name = str(path or ours)
    try:
        status = _merge(base, ours, theirs, path, name)
    except KeyboardInterrupt:
        status = 130
    except (TaskstoreError, _DriverError) as error:
        status = _failed(name, str(error))
    except OSError as error:
        where = f"{os.fspath(error.filename)!r}: " if error.filename is not None else ""
        status = _failed(name, f"{where}{error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - Python's own exit status for it would be 1
        status = _failed(name, f"{type(error).__name__}: {error}")
    ctx.exit(status)


def _merge(base: Path, ours: Path, theirs: Path, path: Path | None, name: str) -> int:
    if path is not None and not _is_log(path):
        _replace(ours, _union(base, ours, theirs))
        return _MERGED
    log = path or ours
    policies = _policies(log) if _is_log(log) else {}
    before = ours.read_bytes()
    with _no_collection():
        merged = merge_logs(base.read_bytes(), before, theirs.read_bytes(), policies)
    if merged.data != before:
        _replace(ours, merged.data)
    for line in lines_of(merged):
        _say(f"{name}: {line}")
    return _LEFT if merged.is_left else _MERGED


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Spare a large merge, which makes no circles, the search for them: a sixth of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_log(path: Path) -> bool:
    try:
        check_collection_name(path.stem)
    except InvalidNameError:
        return False
    return path.suffix == ".jsonl" and path.absolute().parent.name == _STORE


def _policies(log: Path) -> Mapping[str, str]:
    """Return the policies of a log's collection, which the config.toml beside it has."""
    for folder in (Path(), *_roots()):
        config = folder / log.parent / "config.toml"
        try:
            text = config.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except UnicodeDecodeError:
            raise _DriverError(f"{config}: not UTF-8") from None
        return _parsed(text, str(config), log)
    return _policies_in_git(log)


def _policies_in_git(log: Path) -> Mapping[str, str]:
    """Return what a config.toml says that is not checked out, as in a sparse checkout."""
    from taskstore._git.run import Git
    from taskstore.errors import GitError

    config = log.parent / "config.toml"
    try:
        data = None if log.is_absolute() else Git(Path.cwd()).tracked(config.as_posix())
    except GitError:
        data = None  # who merges without git has no more than the files
    if data is None:
        return {}
    try:
        return _parsed(data.decode(), str(config), log)
    except UnicodeDecodeError:
        raise _DriverError(f"{config} in git: not UTF-8") from None


def _parsed(text: str, source: str, log: Path) -> Mapping[str, str]:
    from taskstore._merge.policies import parse_policies

    return parse_policies(text, source).of(log.stem)


def _roots() -> list[Path]:
    """Return the root of the repository that we are in; git names paths from there."""
    here = Path.cwd()
    return [folder for folder in (here, *here.parents) if (folder / ".git").exists()][:1]


def _union(base: Path, ours: Path, theirs: Path) -> bytes:
    """Return what git makes of a file that has the attribute merge=union and no driver."""
    import subprocess

    # The files are named from where we are, and a name may begin with a dash.
    files = [file.absolute() for file in (ours, base, theirs)]
    call = ["git", "merge-file", "--union", "--stdout", *map(str, files)]
    done = subprocess.run(call, capture_output=True, check=False)  # noqa: S603 - no shell
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip() or "no reason given"
        raise _DriverError(f"git merge-file --union: {reason}")
    return done.stdout


def _replace(path: Path, data: bytes) -> None:
    """Give a file its new content, wholly or not at all."""
    target = path.resolve()
    draft = target.with_name(f"{target.name}.{os.urandom(4).hex()}.tmp")
    mode = target.stat().st_mode & 0o7777
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        draft.chmod(mode)
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _failed(name: str, reason: str) -> int:
    _say(f"{name}: {reason}; nothing was merged")
    return _FAILED


def _say(message: str) -> None:
    # Whoever reads it may be gone, which must not change what the exit status says.
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"taskstore merge: {message}", err=True)
