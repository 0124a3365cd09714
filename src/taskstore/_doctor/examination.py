"""The whole examination, and the fixes that need no person."""

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
"""The findings with which the cache cannot be checked without a change."""


@attrs.frozen
class Examination:
    """The result of an examination.

    Attributes:
        findings: The problems.
        fixed: The problems that were found before and are fixed now.
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
    """Check everything that can be wrong, and change nothing.

    Args:
        layout: The store directory.
        repository: The repository that contains it; None for none, or why that is unknown.
        types: The record types of the application; None to import those that the settings name.

    Raises:
        StoreVersionError: The directory has an unknown version.
        StoreAccessError: It cannot be read.
        GitError: Git cannot be asked.
    """
    merging = conflicts(repository) if isinstance(repository, Repository) else []
    findings = [*check_conflicts(merging), *check_directory(layout)]
    held = [*check_locks(layout)]
    findings += held
    # A merge by record can settle these. In an editor, an edit would be lost.
    unsettled = {log.path for log in merging if log.is_open}
    findings += check_logs(layout, now_ms(), is_idle=not held, unsettled=unsettled)
    findings += check_policies(layout, types)
    findings += check_git(layout, repository)
    # An open would fail, wait, or fix something.
    if not {finding.code for finding in findings} & _BEFORE_CACHE:
        findings += check_cache(layout)
    return Examination(tuple(findings))


def mend(
    layout: Layout,
    repository: Repository | GitError | None,
    types: Sequence[RecordType[Any]] | None = None,
) -> Examination:
    """Fix what is safe to fix, and check again.

    Only the merge of a conflict removes lines of a log, if one side removed them. Nothing that a
    person wrote is overwritten. The index only gains logs whose conflict has been merged.

    Raises:
        TaskstoreError: Something could not be fixed.
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
