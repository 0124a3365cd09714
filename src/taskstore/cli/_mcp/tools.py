"""What each tool does: the same as the command of its name, with the same checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from taskstore._log.layout import Layout
from taskstore._survey.fields import (
    KNOWN,
    check_fields,
    check_new_fields,
    check_value,
    contents,
    field_kinds,
    parse_filters,
)
from taskstore._watch.cursor import Cursor
from taskstore._watch.follow import ChangeEvent, Follower
from taskstore.cli._arguments import not_found, older_version, sorts_of
from taskstore.cli._errors import Failure, Status, failure_of, hint
from taskstore.cli._mcp import shapes
from taskstore.cli._mcp.sizes import Room, unfit
from taskstore.cli._store import check_collection, check_new_collection, opened, opened_at
from taskstore.cli.add import with_id
from taskstore.cli.history import changed_fields, version_facts
from taskstore.cli.set import Change, check_changes
from taskstore.cli.watch import event_facts
from taskstore.errors import StaleRecordError, TaskstoreError

if TYPE_CHECKING:
    from taskstore._api.store import Store

_ALLOW = 'with "new": true it is written all the same'


@attrs.frozen
class Tool:
    """A tool.

    Attributes:
        name: That of the command.
        description: What it does.
        arguments: What it takes.
        result: What it returns.
        answer: Called with the store's directory and the arguments.
        writes: Whether it changes records.
    """

    name: str
    description: str
    arguments: type[shapes.Arguments]
    result: type[msgspec.Struct]
    answer: Callable[[Path, Any], msgspec.Struct]
    writes: bool = False


def call(tool: Tool, directory: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a tool answers, as a JSON object.

    Args:
        tool: What is called.
        directory: The store.
        given: The arguments, as they came.

    Raises:
        Failure: The arguments are not such as it takes, or the store refuses.
    """
    try:
        arguments = msgspec.convert(dict(given), tool.arguments)
    except msgspec.ValidationError as error:
        names = ", ".join(tool.arguments.__struct_fields__) or "none"
        message = f"the arguments of {tool.name} do not fit: {error}; it has these: {names}"
        raise Failure(message, Status.USAGE) from error
    try:
        answer: dict[str, Any] = msgspec.to_builtins(tool.answer(directory, arguments))
    except (TaskstoreError, UnicodeEncodeError, OSError) as error:
        raise failure_of(error) from error
    return answer


def _opened(directory: Path, at: str | None) -> AbstractContextManager[Store]:
    return opened_at(directory, at) if at else opened(directory)


def _collections(directory: Path, _: shapes.NoArguments) -> shapes.Collections:
    with opened(directory) as store:
        names, _strays = Layout(store.path).collections()
        facts = contents(store, names)
        return shapes.Collections([shapes.CollectionFacts(*each) for each in facts])


def _list(directory: Path, given: shapes.ListArguments) -> shapes.Page:
    with _opened(directory, given.at) as store:
        check_collection(store, given.collection)
        conditions = parse_filters(store, given.collection, given.where)
        order = sorts_of(store, given.collection, given.sort)
        check_fields(store, given.collection, given.columns)
        limit = given.limit
        while True:
            page = store.page(
                given.collection, *conditions, order_by=order, limit=limit, after=given.after
            )
            records = [_shown(record, given.columns) for record in page.items]
            room = Room()
            fitting = sum(1 for _ in _while_fits(page.items, records, room))
            if fitting == len(records):
                return shapes.Page(records, page.next)
            # The token of a page is that of its last record.
            limit = fitting


def _while_fits(
    items: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]], room: Room
) -> Any:
    for item, record in zip(items, records, strict=True):
        if (reason := unfit(record)) is not None:
            if record is records[0]:
                raise Failure(f"record {item['id']!r} does not fit into an answer: {reason}")
            return
        if not room.take(record):
            return
        yield record


def _get(directory: Path, given: shapes.GetArguments) -> shapes.Found:
    with _opened(directory, given.at) as store:
        collection = check_collection(store, given.collection)
        check_fields(store, collection, given.columns)
        found = []
        room = Room()
        for id in dict.fromkeys(given.ids):
            record = store.get(collection, id) or not_found(store, collection, id)
            shown = _shown(record, given.columns)
            reason = unfit(shown)
            if reason is None and not room.take(shown):
                reason = "there is no room left: ask for fewer records, or name columns"
            if reason is not None:
                raise Failure(f"record {id!r} does not fit into an answer: {reason}")
            found.append(shown)
        return shapes.Found(found)


def _add(directory: Path, given: shapes.AddArguments) -> shapes.Added:
    with opened(directory, write=True) as store:
        is_new = check_new_collection(store, given.collection, new=given.new, remedy=_ALLOW)
        fields = _fields(store, given.collection, given.fields, new=given.new)
        fresh = () if given.new else check_new_fields(store, given.collection, fields)
        try:
            record = store.create(with_id(fields), collection=given.collection)
        except StaleRecordError as error:
            older_version(error)
        reason = unfit(record)
        shown = None if reason else record
        return shapes.Added(record["id"], shown, reason, is_new, list(fresh))


def _set(directory: Path, given: shapes.SetArguments) -> shapes.Changed:
    if not given.fields and not given.unset:
        raise Failure("there is nothing to change: give fields, or unset", Status.USAGE)
    with opened(directory, write=True) as store:
        collection = check_collection(store, given.collection)
        fields = _fields(store, collection, given.fields, new=given.new)
        fresh = check_changes(store, collection, fields, given.unset, new=given.new)
        change = Change(store, collection, fields, given.unset, option="only_if")
        before, after = change.one(given.id, given.only_if)
        reason = unfit(after)
        return shapes.Changed(
            given.id,
            None if reason else after,
            reason,
            changed_fields(before, after),
            list(fresh),
        )


def _fields(
    store: Store, collection: str, fields: Mapping[str, Any], *, new: bool
) -> dict[str, Any]:
    """Return values for fields, each as the field takes it."""
    try:
        json.dumps(fields, allow_nan=False)
    except ValueError as error:
        raise Failure("fields have a number that is too large for JSON", Status.USAGE) from error
    if new:
        return dict(fields)
    return {
        name: value
        if name in KNOWN
        else check_value(name, value, field_kinds(store, collection, name), _ALLOW)
        for name, value in fields.items()
    }


def _history(directory: Path, given: shapes.HistoryArguments) -> shapes.Versions:
    facts = version_facts(directory, given.collection, given.id)
    end = len(facts) if given.before is None else min(given.before - 1, len(facts))
    room = Room()
    found: list[shapes.RecordVersion] = []
    for number in range(end, max(end - given.limit, 0), -1):
        version = {**facts[number - 1], "number": number}
        record, version["omitted"] = _sendable(version["record"])
        version["record"] = record
        if record is not None and not room.take(record):
            break
        found.append(shapes.RecordVersion(**version))
    first = found[-1].number if found else 1
    return shapes.Versions(found[::-1], len(facts), first if first > 1 else None)


def _changes(directory: Path, given: shapes.ChangesArguments) -> shapes.Changes:
    with opened(directory) as store:
        for name in given.collections:
            check_collection(store, name)
        layout = Layout(store.path)
    since = None if given.since == "now" else Cursor.parse(given.since)
    follower = Follower(layout, since, collections=frozenset(given.collections))
    try:
        found: list[shapes.Event] = []
        cursor, more, room = str(follower.cursor), False, Room()
        for event in islice(follower.poll(), given.limit + 1):
            sent = _event(event)
            if len(found) == given.limit or (sent.record and not room.take(sent.record)):
                more = True
                break
            found.append(sent)
            cursor = event.cursor
        return shapes.Changes(found, cursor, more)
    finally:
        follower.close()


def _event(event: ChangeEvent) -> shapes.Event:
    facts = event_facts(event)
    record, reason = _sendable(facts.pop("record", None))
    return shapes.Event(**facts, record=record, omitted=reason)


def _sendable(record: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, str | None]:
    """Return a record that an answer can have, or why it cannot have it."""
    if record is None:
        return None, None
    reason = unfit(record)
    return (dict(record), None) if reason is None else (None, reason)


def _shown(record: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    if not columns:
        return dict(record)
    return {name: record.get(name) for name in columns}


TOOLS = (
    Tool(
        "collections",
        "List the collections, with the number and the fields of their records.",
        shapes.NoArguments,
        shapes.Collections,
        _collections,
    ),
    Tool(
        "list",
        "List the records of a collection, newest first, a page at a time.",
        shapes.ListArguments,
        shapes.Page,
        _list,
    ),
    Tool(
        "get",
        "Return records by their ids. If one of them does not exist, none is returned.",
        shapes.GetArguments,
        shapes.Found,
        _get,
    ),
    Tool(
        "history",
        "Return the versions of a record with what each changed and the commit that brought it, "
        "the newest ones first to be returned.",
        shapes.HistoryArguments,
        shapes.Versions,
        _history,
    ),
    Tool(
        "changes",
        "Return what was committed to the logs since a cursor, in order.",
        shapes.ChangesArguments,
        shapes.Changes,
        _changes,
    ),
    Tool(
        "add",
        "Add a record. Without an id in its fields it gets one that sorts by time. The collection "
        "is created if needed.",
        shapes.AddArguments,
        shapes.Added,
        _add,
        writes=True,
    ),
    Tool(
        "set",
        "Change fields of a record, and remove fields. With only_if, only one of several callers "
        "succeeds.",
        shapes.SetArguments,
        shapes.Changed,
        _set,
        writes=True,
    ),
)


def tool_named(name: str, *, read_only: bool) -> Tool:
    """Return the tool with a name.

    Raises:
        Failure: There is none, or it writes and must not.
    """
    tools = {tool.name: tool for tool in TOOLS}
    tool = tools.get(name)
    if tool is None:
        raise Failure(f"no tool {name!r}{hint(name, tools)}", Status.USAGE)
    if tool.writes and read_only:
        message = f"{name} writes, and this server only reads: start it without --read-only"
        raise Failure(message, Status.USAGE)
    return tool
