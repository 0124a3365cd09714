"""`taskstore set`: change fields of records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import click

from taskstore.cli._arguments import (
    collection_argument,
    new_option,
    not_found,
    older_version,
    read_json,
    where_option,
)
from taskstore.cli._bulk import passing_ids
from taskstore.cli._completion import complete_assignment, complete_field, complete_id
from taskstore.cli._errors import Failure, Status, reporting
from taskstore.cli._output import json_option, note, write_json
from taskstore.cli._store import check_collection, uses_store
from taskstore.errors import ConditionFailedError, RecordNotFoundError, StaleRecordError

if TYPE_CHECKING:
    from taskstore._api.store import Store
    from taskstore._query.conditions import Condition


_LONG = 60

Written: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
"""A record before and after the change."""


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    if ctx.params.get("words") or ctx.params.get("filters"):
        return complete_assignment(ctx, param, incomplete)
    return complete_id(ctx, param, incomplete)


@click.command("set")
@collection_argument
@click.argument("words", metavar="[ID] FIELD=VALUE...", nargs=-1, shell_complete=_complete)
@where_option
@click.option(
    "--unset", metavar="FIELD", multiple=True, help="Remove a field.", shell_complete=complete_field
)
@click.option(
    "--if",
    "conditions",
    metavar="FILTER",
    multiple=True,
    shell_complete=complete_assignment,
    help="Only if the record passes a filter (see `list --where`) at that moment.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would change.")
@click.option("-y", "--yes", is_flag=True, help="With --where: do not ask.")
@new_option
@json_option
@uses_store(write=True)
def command(
    store: Store,
    collection: str,
    words: tuple[str, ...],
    filters: tuple[str, ...],
    unset: tuple[str, ...],
    conditions: tuple[str, ...],
    *,
    dry_run: bool,
    yes: bool,
    new: bool,
    as_json: bool,
) -> None:
    """Change fields of the record ID in COLLECTION, or of all records that pass --where.

    Values are typed as for `add`; `-` in place of fields reads an object of changes from stdin.
    With --if, only one of several callers succeeds. With --where, all records are changed or none,
    and --json prints the ids of those that were.

    Exit status: 0, also if there was nothing to change; 1 if there is no such record, or it does
    not pass --if.

    \b
    Examples:
      taskstore set plans plan-001 status=done
      taskstore set plans plan-001 assignee=me --if '!assignee'
      taskstore set plans --where status=open --where assignee=ada assignee=grace --dry-run
    """
    check_collection(store, collection)
    if filters and conditions:
        raise click.UsageError("With --where, --if has no use: add its filters to --where.")
    id, fields = (None, words) if filters else (words[:1], words[1:])
    changes = _changes(store, collection, fields)
    if not filters and not id:
        raise click.UsageError("Missing argument 'ID', or --where FILTER.")
    if not changes and not unset:
        raise click.UsageError("Missing argument 'FIELD=VALUE...', or --unset FIELD.")
    fresh = check_changes(store, collection, changes, unset, new=new)
    change = Change(store, collection, changes, unset, dry_run=dry_run)
    if id:
        written = [change.one(id[0], conditions)]
    else:
        ask = not (yes or dry_run)
        ids = passing_ids(store, collection, filters, verb="change", done="changed", ask=ask)
        written = change.several(ids, filters)
    for name in fresh if written and not dry_run else ():
        note(f"{name} is a new field of {collection}")
    _report(collection, written, one=bool(id), dry_run=dry_run, as_json=as_json)


def _report(
    collection: str, written: list[Written], *, one: bool, dry_run: bool, as_json: bool
) -> None:
    if not as_json:
        for before, after in written:
            said = "; ".join(_differences(before, after)) or "nothing to change"
            note(f"{collection}/{after['id']}: {said}")
        if not written:
            note(f"no record of {collection} passes")
        elif dry_run:
            note("nothing was written")
        return
    with reporting("nothing was written" if dry_run else "the change was written"):
        if one:
            write_json(written[0][1])
        else:
            ids = [after["id"] for before, after in written if _differences(before, after)]
            write_json({"ids": ids, "dry_run": dry_run})


def _changes(store: Store, collection: str, fields: tuple[str, ...]) -> dict[str, Any]:
    from taskstore._survey.fields import parse_assignments

    if fields != ("-",):
        return parse_assignments(store, collection, fields)
    changes = read_json("give an object of changes")
    if not isinstance(changes, dict):
        raise Failure("stdin does not have a JSON object of changes", Status.USAGE)
    return changes


def check_changes(
    store: Store,
    collection: str,
    changes: Mapping[str, Any],
    unset: Sequence[str],
    *,
    new: bool,
) -> Sequence[str]:
    """Return the names that are new fields.

    Raises:
        Failure: One that is to be removed has to stay.
        UnknownFieldError: No record has one that is to be removed, or a new one is like a field.
    """
    from taskstore._survey.fields import check_fields, check_new_fields

    check_fields(store, collection, unset)
    if "id" in unset or "updated_at" in unset:
        raise Failure("id and updated_at cannot be removed", Status.USAGE)
    return () if new else check_new_fields(store, collection, changes)


class _DryRunError(Exception):
    """Rolls back the transaction of a dry run."""


@attrs.frozen
class Change:
    """A change of fields, for one record or several.

    Attributes:
        store: The store.
        collection: The collection.
        changes: The new values.
        unset: The fields to remove.
        dry_run: Whether to undo the change at the end.
        option: The option that takes a condition, for a message.
    """

    store: Store
    collection: str
    changes: Mapping[str, Any]
    unset: Sequence[str]
    dry_run: bool = attrs.field(default=False, kw_only=True)
    option: str = attrs.field(default="--if", kw_only=True)

    def one(self, id: str, conditions: Sequence[str]) -> Written:
        """Change a record, if it passes some filters.

        Raises:
            Failure: There is no such record, or what is written has an older version.
            ConditionFailedError: It does not pass.
        """
        from taskstore._survey.fields import parse_filters

        # The first claim comes before any record has the field.
        only_if = parse_filters(self.store, self.collection, conditions, new=self.changes)
        try:
            [written] = self._written([id], lambda id: self._apply(id, only_if))
        except RecordNotFoundError:
            not_found(self.store, self.collection, id)
        return written

    def several(self, ids: Iterable[str], filters: tuple[str, ...]) -> list[Written]:
        """Change those of some records that still pass --where."""
        from taskstore._survey.fields import parse_filters

        only_if = parse_filters(self.store, self.collection, filters)

        def apply(id: str) -> Written | None:
            try:
                return self._apply(id, only_if)
            except (RecordNotFoundError, ConditionFailedError):
                # It was changed while a person was asked to confirm.
                return None

        return self._written(ids, apply)

    def _written(self, ids: Iterable[str], apply: Callable[[str], Written | None]) -> list[Written]:
        written: list[Written] = []
        try:
            with suppress(_DryRunError), self.store.transaction():
                written += filter(None, map(apply, ids))
                if self.dry_run:
                    raise _DryRunError
        except StaleRecordError as error:
            claim = f"{self.option} updated_at={error.carried}"
            older_version(error, f"; to change the record only at that version, pass {claim}")
        return written

    def _apply(self, id: str, only_if: Iterable[Condition]) -> Written:
        before = self.store.get_one(self.collection, id)
        after = self.store.patch(self.collection, id, *only_if, **self.changes)
        if any(name in after for name in self.unset):
            kept = {name: value for name, value in after.items() if name not in self.unset}
            after = self.store.update(kept, collection=self.collection)
        return before, after


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name} {_shown(before, name)} -> {_shown(after, name)}"
        for name in names
        if name != "updated_at" and _text(before, name) != _text(after, name)
    ]


def _shown(record: dict[str, Any], name: str) -> str:
    text = _text(record, name)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def _text(record: dict[str, Any], name: str) -> str:
    return json.dumps(record[name], ensure_ascii=False) if name in record else "(none)"
