"""The whole examination, and what can be fixed without a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from taskstore._api.store import Store
from taskstore._doctor.cache_checks import check_cache
from taskstore._doctor.conflicts import Resolved, conflicts, resolve
from taskstore._doctor.findings import INFO, Finding
from taskstore._doctor.git_checks import check_conflicts, check_git
from taskstore._doctor.log_checks import check_directory, check_locks, check_logs
from taskstore._doctor.policies import check_policies, configured_types, write_settings
from taskstore._doctor.types import TypesError, load_types
from taskstore._git.installation import install
from taskstore._git.repository import Repository
from taskstore._log.layout import Layout
from taskstore._records.ids import now_ms
from taskstore._records.types import RecordType
from taskstore.errors import ConfigError, GitError

_BEFORE_CACHE = {"access", "gitignore", "journal", "lock", "version"}
"""What keeps the cache from being looked at without a change."""


@attrs.frozen
class Examination:
    """What was found.

    Attributes:
        findings: What is not as it should be.
        fixed: What was found before and is mended now.
        merged: The logs that were in conflict and have been merged.
    """

    findings: tuple[Finding, ...]
    fixed: tuple[Finding, ...] = ()
    merged: tuple[Resolved, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return all(finding.level == INFO for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The examination in plain values, for JSON."""
        return {
            "ok": self.ok,
            "findings": [finding.to_dict() for finding in self.findings],
            "fixed": [finding.to_dict() for finding in self.fixed],
            "merged": [attrs.asdict(log) for log in self.merged],
        }


def examine(
    layout: Layout,
    repository: Repository | GitError | None,
    types: Sequence[RecordType[Any]] | None = None,
) -> Examination:
    """Look at everything that can be wrong, and change nothing.

    Args:
        layout: The store directory.
        repository: The repository that it is in; None for none, or why that cannot be known.
        types: The record types of the application; None to import those that the settings name.

    Raises:
        StoreVersionError: The directory is of a version that we do not know.
        StoreAccessError: It cannot be read.
        GitError: Git cannot be asked.
    """
    merging = conflicts(repository) if isinstance(repository, Repository) else []
    findings = [*check_conflicts(merging), *check_directory(layout)]
    held = [*check_locks(layout)]
    findings += held
    # What a merge by record settles is no work for an editor, which would lose an edit.
    unsettled = {log.path for log in merging if log.is_open}
    findings += check_logs(layout, now_ms(), is_idle=not held, unsettled=unsettled)
    findings += check_policies(layout, types)
    findings += check_git(layout, repository)
    # An open would fail, wait, or mend something.
    if not {finding.code for finding in findings} & _BEFORE_CACHE:
        findings += check_cache(layout)
    return Examination(tuple(findings))


def mend(
    layout: Layout,
    repository: Repository | GitError | None,
    types: Sequence[RecordType[Any]] | None = None,
) -> Examination:
    """Fix what is safe to fix, and look again.

    No line of a log is removed but by the merge of a conflict, as one side removed it; nothing that
    a person wrote is overwritten, and the index gains nothing but logs whose conflict has been
    merged.

    Raises:
        TaskstoreError: Something could not be mended.
        OSError: A file cannot be written.
    """
    before = examine(layout, repository, types)
    wrong = {finding.code for finding in before.findings if finding.is_safe}
    layout.prepare()
    merged: list[Resolved] = []
    if isinstance(repository, Repository):
        if "conflict" in wrong:
            merged = resolve(repository)
        if wrong & {"attributes", "clone-attributes", "driver", "hooks"}:
            install(repository, layout.directory)
    if "policies" in wrong:
        write_settings(layout, types if types is not None else _configured(layout))
    if wrong & {"cache", "stale", "schema", "journal"} or merged:
        with Store.open(layout.directory, create=False) as store:
            store.verify(repair=True)
    after = examine(layout, repository, types)
    fixed = [finding for finding in before.findings if finding not in after.findings]
    return Examination(after.findings, tuple(fixed), tuple(merged))


def _configured(layout: Layout) -> list[RecordType[Any]]:
    try:
        return load_types(configured_types(layout))
    except (ConfigError, TypesError):
        return []  # which is a finding of its own
