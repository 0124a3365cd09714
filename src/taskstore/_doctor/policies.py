"""The merge policies in config.toml, compared with those of the record types, and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskstore._doctor.findings import ERROR, INFO, WARNING, Finding
from taskstore._doctor.types import TypesError, load_types, policies_of
from taskstore._git import files
from taskstore._log.layout import Layout
from taskstore._merge.policies import parse_policies
from taskstore._merge.settings_text import add_policies, add_types
from taskstore._records.types import RecordType
from taskstore._store.settings import read_indexes
from taskstore.errors import ConfigError

__all__ = ["check_policies", "configured_types", "settings_problem", "write_settings"]

Types = Sequence[RecordType[Any]]


def configured_types(layout: Layout) -> list[str]:
    """Return the modules with record types that config.toml names.

    Raises:
        ConfigError: The file cannot be used.
    """
    import tomllib

    text = layout.read_config()
    try:
        found = tomllib.loads(text).get("types", [])
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(layout.config_path, reason=f"not TOML: {error}") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        reason = 'types must be a list of modules, such as types = ["shop.models"]'
        raise ConfigError(layout.config_path, reason=reason)
    return found


def settings_problem(layout: Layout) -> str | None:
    """Return why the settings cannot be used: for a merge, or at all; None where they can."""
    try:
        parse_policies(layout.read_config(), str(layout.config_path))
    except ConfigError as error:
        return str(error)
    return None


def check_policies(layout: Layout, types: Types | None) -> Iterator[Finding]:
    """Yield what is wrong with the settings.

    Args:
        layout: The store directory.
        types: The record types of the application; None to import those that the settings name.
    """
    problem = read_indexes(layout).problem
    try:
        found = parse_policies(layout.read_config(), str(layout.config_path)).by_collection
        if types is None:
            types = load_types(configured_types(layout))
    except ConfigError as error:
        meaning = "the merge driver refuses to merge until it can be read"
        remedy = "rename or remove" if layout.config_path.is_dir() else "edit"
        yield Finding("config", ERROR, str(error), meaning, f"{remedy} {layout.config_path}")
        return
    except TypesError as error:
        meaning = "the merge policies cannot be compared with the record types"
        remedy = f"taskstore doctor --types {error.module}, in the application's directory"
        yield Finding("types", INFO, str(error), meaning, remedy)
        return
    if problem is not None:
        meaning = "the indexes stay what they were"
        yield Finding("indexes", WARNING, str(problem), meaning, f"edit {layout.config_path}")
    yield from _compared(layout, policies_of(types), found)


def _compared(
    layout: Layout,
    wanted: Mapping[str, Mapping[str, str]],
    found: Mapping[str, Mapping[str, str]],
) -> Iterator[Finding]:
    for collection, policies in wanted.items():
        known = found.get(collection, {})
        missing = [field for field in policies if field not in known]
        if missing:
            yield Finding(
                "policies",
                WARNING,
                f"{layout.config_path} lacks the merge policies of {collection}: {_list(missing)}",
                "the merge driver, which knows no types, takes the newest there",
                "taskstore doctor --fix",
                is_safe=True,
            )
        for field in policies:
            if field in known and known[field] != policies[field]:
                yield Finding(
                    "policies",
                    WARNING,
                    f"{collection}.{field} is merged by {known[field]!r}, and its record type "
                    f"says {policies[field]!r}",
                    "the file decides; only a person knows which of the two is meant",
                    f"edit {layout.config_path}, or the record type",
                )


def write_settings(layout: Layout, types: Types, modules: Sequence[str] = ()) -> list[str]:
    """Write the policies that config.toml lacks, and the modules that they come from.

    Returns:
        The collections, and `types`, for which something was written.

    Raises:
        ConfigError: The file cannot be used, or only a person can add to it.
        OSError: It cannot be written.
    """
    path = str(layout.config_path)
    old = new = layout.read_config()
    written = []
    if modules and (changed := add_types(new, modules, path)) != new:
        new = changed
        written.append("types")
    for collection, policies in policies_of(types).items():
        changed = add_policies(new, {collection: policies}, path)
        if changed != new:
            new = changed
            written.append(f"merge.{collection}")
    if new != old:
        files.write(layout.config_path, new.encode())
    return written


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
