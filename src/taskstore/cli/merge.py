"""`taskstore merge`: the driver that git calls to merge a log."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from taskstore._evolution.graph import Graph, graphs_of
from taskstore._format.lines import LineError, stand_in
from taskstore._format.names import EVOLUTIONS, check_collection_name
from taskstore._log.evolutions import read_stated
from taskstore._log.layout import Layout
from taskstore._log.lines import chunks_of, whole_lines
from taskstore._merge.policies import Policies, parse_policies
from taskstore._merge.report import lines_of
from taskstore._merge.three_way import Merged, merge_logs
from taskstore.cli._output import note
from taskstore.errors import InvalidNameError, TaskstoreError, UnknownRevisionError

_MERGED, _LEFT, _FAILED = 0, 1, 2


class _DriverError(Exception):
    """The merge cannot be done. The message says why."""


class _Driver(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Among other arguments, -h is a path.
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


@click.command(
    "merge",
    cls=_Driver,
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

    PATH is the name of the log in the repository. Its directory has the config.toml with the merge
    policies. Git calls this as `taskstore merge %O %A %B %P`. If PATH is not a log of a store, the
    files are passed to `git merge-file --union`.

    Exit status: 0 merged; 1 merged as far as possible, and a person must decide the rest; 2 failed,
    and OURS is unchanged.

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
    from taskstore._git.files import write

    if path is not None and not _is_log(path):
        write(ours, _union(base, ours, theirs))
        return _MERGED
    log = path or ours
    policies = _policies(log) if _is_log(log) else Policies()
    before = _read(ours)
    sides = _read(base), before, _read(theirs)
    stated = _stated(log) if _is_log(log) else {}
    graphs = graphs_of(sorted(stated.items()))[0]
    _check_sides(sides)
    with _no_collection():
        try:
            merged = _merged(log, sides, policies, graphs)
        except UnknownRevisionError:
            # Their evolutions come with the same merge.
            graphs = _graphs_in_git(log, stated)
            merged = _merged(log, sides, policies, graphs)
    if merged.data != before:
        write(ours, merged.data)
    for line in lines_of(merged):
        _say(f"{name}: {line}")
    return _LEFT if merged.is_left else _MERGED


def _merged(
    log: Path, sides: tuple[bytes, bytes, bytes], policies: Policies, graphs: Mapping[str, Graph]
) -> Merged:
    graph = graphs.get(log.stem)
    return merge_logs(*sides, policies.of(log.stem, graph), graph)


def _check_sides(sides: tuple[bytes, ...]) -> None:
    """Refuse what a filter of git has put in place of a log: its lines cannot be merged."""
    for side in sides:
        if (what := stand_in(side)) is not None:
            raise _DriverError(
                f"git has {what}: decide for one side, or merge the logs by hand; to have them "
                "merged by record, add -filter to their attributes and store them in git itself"
            )


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return whole_lines(chunks_of(file))
    except LineError as error:
        raise _DriverError(f"{path}: {error}: shorten the line, or merge by hand") from None


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Turn off the garbage collector: a large merge has no cycles, and is a sixth faster."""
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
    return path.suffix == ".jsonl" and path.absolute().parent.name == Layout.NAME


def _stated(log: Path) -> dict[str, bytes]:
    """Return the lines of the evolutions beside a log, by id."""
    found: dict[str, bytes] = {}
    for folder in (Path(), *_roots()):
        found = read_stated(Layout(folder / log.parent)) | found
    return found


def _graphs_in_git(log: Path, stated: dict[str, bytes]) -> dict[str, Graph]:
    from taskstore._git.evolutions import graphs_at_hand
    from taskstore._git.run import Git, is_installed

    if log.is_absolute() or not is_installed():
        return graphs_of(sorted(stated.items()))[0]
    name = (log.parent / f"{EVOLUTIONS}{log.suffix}").as_posix()
    return graphs_at_hand(Git(Path.cwd()), name, stated)


def _policies(log: Path) -> Policies:
    """Return the policies that the config.toml beside a log has."""
    if log.stem == EVOLUTIONS:
        return Policies()  # these have their own
    for folder in (Path(), *_roots()):
        layout = Layout(folder / log.parent)
        if os.path.lexists(layout.config_path):
            return parse_policies(layout.read_config(), str(layout.config_path))
    return _policies_in_git(log)


def _policies_in_git(log: Path) -> Policies:
    """Return the policies of a config.toml that is not checked out, as in a sparse checkout."""
    from taskstore._git.run import Git, is_installed

    if log.is_absolute() or not is_installed():
        return Policies()
    config = log.parent / "config.toml"
    data = Git(Path.cwd()).tracked(config.as_posix())
    if data is None:
        return Policies()
    try:
        return parse_policies(data.decode(), str(config))
    except UnicodeDecodeError:
        raise _DriverError(f"{config} in git: not UTF-8") from None


def _roots() -> list[Path]:
    """Return the root of this repository, from which git names paths."""
    here = Path.cwd()
    return [folder for folder in (here, *here.parents) if (folder / ".git").exists()][:1]


def _union(base: Path, ours: Path, theirs: Path) -> bytes:
    """Return git's own union merge of a file that is not a log."""
    from taskstore._git.run import LOG_BYTES, Git

    # The paths are relative to the working directory, and a name may begin with a dash.
    files = [str(file.absolute()) for file in (ours, base, theirs)]
    git = Git.elsewhere(ours.absolute().parent)
    return git.run("merge-file", "--union", "--stdout", *files, limit=3 * LOG_BYTES).data


def _failed(name: str, reason: str) -> int:
    _say(f"{name}: {reason}; nothing was merged")
    return _FAILED


def _say(message: str) -> None:
    note(f"taskstore merge: {message}")
