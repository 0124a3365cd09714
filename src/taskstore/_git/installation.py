"""Install Taskstore in a clone, and remove it again to the byte."""

from __future__ import annotations

import contextlib
from pathlib import Path

import attrs

from taskstore._git import attributes, driver, files, hooks, launcher
from taskstore._git.repository import Repository
from taskstore._git.status import State, digest, hooks_dir, hooks_owner
from taskstore._log.files import make_directories
from taskstore.errors import GitError


@attrs.define
class Done:
    """The result of an installation or its removal.

    Attributes:
        changed: The parts that were changed, such as "merge driver".
        left: The parts that were not changed, and why.
    """

    changed: list[str] = attrs.field(factory=list)
    left: list[str] = attrs.field(factory=list)


def install(repository: Repository, directory: Path, *, with_hooks: bool | None = None) -> Done:
    """Install what is missing: attributes, the merge driver, the textconv and the hooks.

    Args:
        repository: The clone.
        directory: The store.
        with_hooks: Whether to install hooks; None leaves them to a tool that owns them.

    Raises:
        GitError: Git refused, or a link is in the place of a file.
        OSError: A file cannot be written.
    """
    done = Done()
    state = State.load(repository.common_dir)
    try:
        _write_attributes(repository, directory, state, done)
        if launcher.write(repository.common_dir):
            done.changed.append("launcher")
        _write_settings(repository, state, done)
        if with_hooks is not False:
            _write_hooks(repository, state, done, force=with_hooks is True)
    finally:
        # An uninstall also undoes what was done before a failure.
        state.save(repository.common_dir)
    return done


def _write_attributes(repository: Repository, directory: Path, state: State, done: Done) -> None:
    lines = attributes.of_store(directory)
    is_new, had_no_end = not lines.are_there(), lines.has_no_end()
    if lines.add():
        if is_new:
            state.attributes[str(directory)] = had_no_end
        done.changed.append("log attributes")
    lines = attributes.of_clone(repository.common_dir)
    is_new = not lines.are_there()
    was_there, had_no_end = lines.path.exists(), lines.has_no_end()
    folder = lines.path.parent
    if not folder.exists():
        make_directories(folder)
        state.folders.append(str(folder))
    if lines.add():
        if is_new:
            state.info_was_there, state.info_had_no_end = was_there, had_no_end
        done.changed.append("clone attributes")


def _write_settings(repository: Repository, state: State, done: Done) -> None:
    config = repository.common_dir / "config"
    before = files.peek(config) or b""
    is_first = not state.settings
    is_changed = digest(config) != state.config_after
    written = driver.install(repository)
    if not written:
        return
    if is_first:
        # Git can remove what it added, but it cannot restore the bytes from before.
        if any(written.values()) or not before.endswith(b"\n") or b"union" in before:
            state.config = before.decode("latin-1")
    elif is_changed:
        state.config = None  # by somebody else, since we kept it
    state.settings = {**dict.fromkeys(written), **state.settings}
    state.config_after = digest(config)
    done.changed.append("merge driver")


def _write_hooks(repository: Repository, state: State, done: Done, *, force: bool) -> None:
    place = hooks_dir(repository)
    owner = hooks_owner(repository, place)
    if owner is not None and not force:
        if owner.lacking(repository.top):
            done.left.append(f"the hooks, which {owner.tool} owns")
        return
    if place.exists() and not place.is_dir():
        done.left.append(f"the hooks, which core.hooksPath={place} switches off")
        return
    state.folders += [
        str(folder)
        for folder in (place, *place.parents)
        if not folder.exists() and str(folder) not in state.folders
    ]
    for hook in hooks.HOOKS:
        path = place / hook
        try:
            changed = hooks.put_in(path)
        except FileExistsError as error:
            done.left.append(
                f"the hook {hook}: {error.filename} is there already, {error.strerror}"
            )
            continue
        except (OSError, GitError) as error:
            done.left.append(f"the hook {hook}: {error}")
            continue
        if changed:
            done.changed.append(f"the hook {hook}")
        if str(path) not in state.hooks:
            state.hooks.append(str(path))


def uninstall(repository: Repository, directory: Path) -> Done:
    """Remove from a clone what was installed in it, and restore what was there before.

    Committed attributes stay: they belong to the repository and do no harm. Attributes in another
    work tree stay too, committed or not.

    Raises:
        GitError: Git refused, or a link is in the place of a file.
        OSError: A file cannot be written.
    """
    done = Done()
    state = State.load(repository.common_dir)
    place = hooks_dir(repository)
    for path in dict.fromkeys([*(place / hook for hook in hooks.HOOKS), *map(Path, state.hooks)]):
        try:
            if hooks.take_out(path):
                done.changed.append(f"the hook {path.name}")
        except (OSError, GitError) as error:
            done.left.append(f"the hook {path.name}: {error}")
    if _restore_settings(repository, state):
        done.changed.append("merge driver")
    _restore_attributes(repository, directory, state, done)
    for folder in map(Path, state.folders):
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless somebody uses it
    files.remove(launcher.path_in(repository.common_dir))
    State.remove(repository.common_dir)
    return done


def _restore_settings(repository: Repository, state: State) -> bool:
    config = repository.common_dir / "config"
    is_as_we_left_it = digest(config) == state.config_after and not config.is_symlink()
    if state.config is not None and is_as_we_left_it:
        data = state.config.encode("latin-1")
        files.write(config, data, below=repository.common_dir)
        return True
    found = [
        driver.take_out(repository, name, state.settings.get(name)) for name in driver.SETTINGS
    ]
    return any(found)


def _restore_attributes(repository: Repository, directory: Path, state: State, done: Done) -> None:
    written = {str(directory): False, **state.attributes}
    for store, had_no_end in written.items():
        lines = attributes.of_store(Path(store))
        if not lines.are_there():
            continue
        if not _is_here(repository, Path(store)):
            done.left.append(f"the attributes in {store}, which is in another work tree")
        elif _is_committed(repository, lines):
            done.left.append("log attributes, which are committed")
        elif lines.take_out(had_no_end=had_no_end):
            done.changed.append("log attributes")
    lines = attributes.of_clone(repository.common_dir)
    if lines.take_out(had_no_end=state.info_had_no_end, was_there=state.info_was_there):
        done.changed.append("clone attributes")


def _is_here(repository: Repository, store: Path) -> bool:
    """Return whether a store is in this work tree. Another work tree may be inside this one."""
    try:
        found = Repository.find(store)
    except GitError:
        return False
    return found is not None and found.git_dir == repository.git_dir


def _is_committed(repository: Repository, lines: attributes.Lines) -> bool:
    found = repository.git.ask("cat-file", "blob", f"HEAD:{repository.name_of(lines.path)}")
    return found.status == 0 and lines.are_there(found.data)
