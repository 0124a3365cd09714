"""Compare the merge policies in config.toml with the record types, and write missing ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskstore._doctor.findings import ERROR, INFO, WARNING, Finding
from taskstore._doctor.trust import trusted_modules
from taskstore._doctor.types import TypesError, load_types, policies_of
from taskstore._format.config import Config
from taskstore._log.layout import Layout
from taskstore._merge.settings_text import add_policies, add_types
from taskstore._records.types import RecordType
from taskstore._store.settings import read_settings

Types = Sequence[RecordType[Any]]


def configured_types(layout: Layout) -> list[str]:
    """Return the modules with record types that config.toml names and that are trusted.

    Raises:
        ConfigError: The file cannot be used.
        StoreAccessError: The list of trusted modules cannot be read.
    """
    config = read_settings(layout)
    config.check("types", layout.config_path)
    trusted = set(trusted_modules(layout))
    return [name for name in config.modules if name in trusted]


def check_policies(layout: Layout, types: Types | None) -> Iterator[Finding]:
    """Yield the problems of the settings.

    Args:
        layout: The store directory.
        types: The record types of the application; None to import the trusted modules that the
            settings name.
    """
    config = read_settings(layout)
    yield from _faults(layout, config)
    if config.faults.keys() & {"", "merge"} or (types is None and "types" in config.faults):
        return
    try:
        if types is None:
            trusted = set(trusted_modules(layout))
            yield from _untrusted(layout, [name for name in config.modules if name not in trusted])
            types = load_types(name for name in config.modules if name in trusted)
    except TypesError as error:
        meaning = "the merge policies cannot be compared with the record types"
        remedy = f"taskstore doctor --types {error.module}, in the application's directory"
        yield Finding("types", INFO, str(error), meaning, remedy)
        return
    yield from _compared(layout, policies_of(types), config.policies)


def _untrusted(layout: Layout, modules: Sequence[str]) -> Iterator[Finding]:
    if modules:
        yield Finding(
            "types",
            INFO,
            f"{layout.config_path} names modules that are not trusted in this clone: "
            f"{_list(modules)}",
            "they are not imported, and their record types not compared with the merge policies",
            f"check their code, then run `taskstore trust {' '.join(modules)}`",
        )


_MEANINGS = {
    "": "the merge driver refuses to merge until it can be read, and indexes stay what they were",
    "merge": "the merge driver refuses to merge until it can be read",
    "indexes": "the indexes stay what they were",
    "types": "the merge policies cannot be compared with the record types",
}


def _faults(layout: Layout, config: Config) -> Iterator[Finding]:
    path = layout.config_path
    remedy = "edit" if path.is_file() and not path.is_symlink() else "rename or remove"
    for table, reason in config.faults.items():
        code, level = ("config", ERROR) if table in ("", "merge") else (table, WARNING)
        yield Finding(code, level, f"{path}: {reason}", _MEANINGS[table], f"{remedy} {path}")


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
                "the merge driver does not know the types, so it takes the newest value",
                "taskstore doctor --fix",
                is_safe=True,
            )
        for field in policies:
            if field in known and known[field] != policies[field]:
                yield Finding(
                    "policies",
                    WARNING,
                    f"{collection}.{field} is merged by {known[field]!r}, but its record type "
                    f"says {policies[field]!r}",
                    "the file decides; check which of the two is right",
                    f"edit {layout.config_path}, or the record type",
                )


def write_settings(layout: Layout, types: Types, modules: Sequence[str] = ()) -> list[str]:
    """Write the policies that config.toml lacks, and the modules that declare them.

    Returns:
        The collections for which something was written, and `types` if modules were written.

    Raises:
        ConfigError: The file cannot be used, or only a person can add to it.
        StoreAccessError: It cannot be written.
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
        layout.write_config(new)
    return written


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
