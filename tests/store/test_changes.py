"""The bookkeeping of a transaction and its savepoints, against a plain stack of dicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskstore._unit.changes import Changes, Key

keys: st.SearchStrategy[Key] = st.tuples(st.sampled_from(["p", "q"]), st.sampled_from("abc"))
lines = st.sampled_from([b"1", b"2", b"3"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, lines),
        st.tuples(st.just("drop"), keys, st.just(b"")),
        st.tuples(
            st.sampled_from(["savepoint", "release", "rollback_to"]),
            st.just(("", "")),
            st.just(b""),
        ),
        st.tuples(st.just("rollback"), st.just(("", "")), st.just(b"")),
    ),
    max_size=40,
)


def batch_of(net: dict[Key, bytes | None]) -> dict[str, dict[str, bytes]]:
    """The lines of a model, by collection and id."""
    found: dict[str, dict[str, bytes]] = {}
    for (collection, id), line in net.items():
        if line is not None:
            found.setdefault(collection, {})[id] = line
    return found


def sorted_lines(batch: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """A batch, without the order of its lines."""
    return {collection: sorted(found) for collection, found in batch.items()}


@given(steps)
def test_what_is_left_is_the_net_of_what_was_not_rolled_back(
    taken: list[tuple[str, Key, bytes]],
) -> None:
    """Savepoints nest, release hands on, and a rollback takes away exactly what came after."""
    changes = Changes()
    model: list[dict[Key, bytes | None]] = [{}]
    names: list[str] = []
    for number, (what, key, line) in enumerate(taken):
        if what == "put":
            changes.put(key, line)
            model[-1][key] = line
        elif what == "drop":
            changes.drop(key)
            model[-1][key] = None
        elif what == "savepoint":
            names.append(f"s{number}")
            changes.savepoint(names[-1])
            model.append(dict(model[-1]))
        elif what == "rollback":
            changes.rollback()
            model, names = [{}], []
        elif names and what == "release":
            changes.release(names.pop())
            released = model.pop()
            model[-1] = released
        elif names:
            changes.rollback_to(names[-1])
            model[-1] = dict(model[-2])
        expected = {
            collection: sorted(found.values()) for collection, found in batch_of(model[-1]).items()
        }
        assert expected == sorted_lines(changes.batch())


@given(st.integers(1, 5), st.data())
def test_ending_an_outer_savepoint_ends_those_inside(depth: int, data: st.DataObject) -> None:
    """Releasing or rolling back by the name of an outer savepoint includes the inner ones."""
    changes = Changes()
    for level in range(depth):
        changes.put(("p", str(level)), b"%d" % level)
        changes.savepoint(f"s{level}")
    changes.put(("p", "last"), b"last")
    outer = data.draw(st.integers(0, depth - 1))
    kept = [b"%d" % level for level in range(outer + 1)]
    if data.draw(st.booleans()):
        changes.rollback_to(f"s{outer}")
        assert {"p": kept} == changes.batch()
    else:
        changes.release(f"s{outer}")
        rest = [b"%d" % level for level in range(outer + 1, depth)]
        assert {"p": [*kept, *rest, b"last"]} == changes.batch()
        changes.rollback()
        assert {} == changes.batch()


@given(st.lists(st.sampled_from(["note", "savepoint", "release", "rollback_to"]), max_size=30))
def test_each_undo_runs_once_and_newest_first(taken: list[str]) -> None:
    """What is to be restored is restored when its level goes, in reverse, and never again."""
    changes = Changes()
    undone: list[int] = []
    levels: list[list[int]] = [[]]
    expected: list[int] = []
    for number, what in enumerate(taken):
        if what == "note":
            changes.on_undo(lambda number=number: undone.append(number))  # type: ignore[misc]
            levels[-1].append(number)
        elif what == "savepoint":
            changes.savepoint(str(len(levels)))
            levels.append([])
        elif len(levels) > 1 and what == "release":
            changes.release(str(len(levels) - 1))
            released = levels.pop()
            levels[-1] += released
        elif len(levels) > 1:
            changes.rollback_to(str(len(levels) - 1))
            expected += reversed(levels[-1])
            levels[-1] = []
        assert expected == undone
    changes.rollback()
    expected += [number for level in reversed(levels) for number in reversed(level)]
    assert expected == undone


def test_an_unknown_savepoint_takes_nothing_away() -> None:
    """A name that no savepoint has changes nothing: the database will complain of it."""
    changes = Changes()
    changes.put(("p", "a"), b"1")
    changes.savepoint("known")
    changes.put(("p", "b"), b"2")
    changes.release("unknown")
    assert {"p": [b"1", b"2"]} == changes.batch()
    changes.rollback_to("known")
    assert {"p": [b"1"]} == changes.batch()
