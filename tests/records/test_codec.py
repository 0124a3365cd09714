"""The codec: what a class can hold, and that every way of declaring it reads and writes alike."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import typing
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstore._format.lines import decode_envelope, join_fields
from taskstore._records.declare import make_converter, record
from taskstore._records.types import RecordType
from taskstore.errors import InvalidIdError, InvalidRecordError


class Status(enum.Enum):
    DRAFT = "draft"
    ACTIVE = "active"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    TEXT = "a"
    NUMBER = 1
    REAL = 1.5
    YES = True


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.define
class Owner:
    name: str
    age: int | None = None


@attrs.define
class Renamed:
    _secret: str
    kind: str = attrs.field(default="", alias="type_")


@attrs.define
class Tree:
    name: str
    children: list[Tree] = attrs.field(factory=list)


def twins(hint: Any) -> list[RecordType[Any]]:
    """One field declared three ways: msgspec alone, an odd class, and the converter."""

    def declare(field: Any, **options: Any) -> RecordType[Any]:
        names = {"id": attrs.field(type=str), "value": field}
        cls: type[Any] = record("things", **options)(attrs.make_class("Thing", names))
        return RecordType.of(cls)

    return [
        declare(attrs.field(type=hint)),
        declare(attrs.field(type=hint, alias="other")),
        declare(attrs.field(type=hint), converter=make_converter()),
    ]


text = st.text()
times = st.datetimes(timezones=st.none() | st.timezones() | st.just(datetime.UTC))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
owners = st.builds(Owner, text, st.none() | st.integers())
trees = st.recursive(
    st.builds(Tree, text),
    lambda inner: st.builds(Tree, text, st.lists(inner, max_size=2)),
    max_leaves=4,
)

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    bytes: st.binary(),
    datetime.datetime: times,
    datetime.date: st.dates(),
    datetime.time: st.times(),
    uuid.UUID: st.uuids(),
    decimal.Decimal: decimals,
    Path: st.lists(st.sampled_from(["a", "b.md", ".", ".."])).map(lambda parts: Path(*parts)),
    Any: any_json,
    Status: st.sampled_from(Status),
    Level: st.sampled_from(Level),
    Odd: st.sampled_from(Odd),
    Right: st.sampled_from([Right.READ, Right.WRITE, Right.READ | Right.WRITE]),
    typing.Literal["a", "b", 1]: st.sampled_from(["a", "b", 1]),
    Owner: owners,
    Tree: trees,
    Renamed: st.builds(Renamed, text, text),
    str | None: st.none() | text,
    int | str | None: st.none() | text | st.integers(),
    int | float: st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    Owner | None: st.none() | owners,
    Renamed | None: st.none() | st.builds(Renamed, text, text),
    Path | None: st.none() | st.just(Path("a/b")),
    list: st.lists(any_json, max_size=3),
    dict: st.dictionaries(text, any_json, max_size=3),
    list[str]: st.lists(text),
    list[Owner]: st.lists(owners, max_size=3),
    list[Renamed]: st.lists(st.builds(Renamed, text, text), max_size=3),
    list[datetime.datetime]: st.lists(times, max_size=3),
    list[Odd]: st.lists(st.sampled_from(Odd)),
    set[int]: st.sets(st.integers()),
    set[Odd]: st.sets(st.sampled_from([Odd.TEXT, Odd.NUMBER, Odd.REAL])),
    frozenset[str]: st.frozensets(text),
    tuple[int, str]: st.tuples(st.integers(), text),
    tuple[Owner, ...]: st.lists(owners, max_size=3).map(tuple),
    tuple[()]: st.just(()),
    dict[str, int]: st.dictionaries(text, st.integers()),
    dict[str, list[Owner]]: st.dictionaries(text, st.lists(owners, max_size=2), max_size=2),
    dict[str, Odd]: st.dictionaries(text, st.sampled_from(Odd)),
    dict[int, str]: st.dictionaries(st.integers(-(2**63), 2**63 - 1), text),
    dict[datetime.date, int]: st.dictionaries(st.dates(), st.integers()),
    typing.Annotated[int, "metres"]: st.integers(),
}


def same_instants(value: Any) -> Any:
    """Times compare as instants, and their zone as what of it RFC 3339 keeps."""
    if isinstance(value, list):
        return [same_instants(item) for item in value]
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        # A wall clock that does not exist in its zone has no offset that could be written.
        return (value - value.utcoffset()).replace(tzinfo=None)  # type: ignore[operator]
    return value


@pytest.mark.parametrize("hint", VALUES, ids=str)
def test_what_is_written_is_read_back(hint: Any) -> None:
    """Every value of every type comes back equal from its line, however it is declared."""
    types = twins(hint)

    @given(VALUES[hint])
    def check(value: Any) -> None:
        for kind in types:
            line = join_fields(kind.encode(kind.cls(**_named(kind, value))))
            assert "x" == decode_envelope(line).id
            found = kind.decode(line).value
            assert same_instants(value) == same_instants(found)
            assert type(value) is type(found) or hint is Any or hint is float

    check()


def _named(kind: RecordType[Any], value: Any) -> dict[str, Any]:
    alias = next(field.alias for field in attrs.fields(kind.cls) if field.name == "value")
    return {"id": "x", alias: value}


@pytest.mark.parametrize("hint", VALUES, ids=str)
def test_all_ways_write_the_same_line(hint: Any) -> None:
    """A value has one line, however its class is declared."""
    types = twins(hint)

    @given(VALUES[hint])
    def check(value: Any) -> None:
        lines = [kind.encode(kind.cls(**_named(kind, value))) for kind in types]
        assert [json.loads(lines[0]["value"])] * 3 == [json.loads(x["value"]) for x in lines]

    check()


SAMPLES = [
    "null", "true", "false", "0", "1", "2", "-1", "1.0", "1.5", "1e2", "123456789012345678901234",
    '""', '"a"', '"draft"', '"5"', '"1.5"', '"true"', '"aGk="', '"aGk"', '"2026-01-01"',
    '"2026-01-01T00:00:00"', '"2026-01-01T00:00:00Z"', '"2026-01-01t00:00:00.123456789+02:00"',
    '"2026-13-01T00:00:00Z"', '"12:00:00"', '"12345678-1234-5678-1234-567812345678"',
    '"12345678123456781234567812345678"', '"{12345678-1234-5678-1234-567812345678}"',
    "[]", "[1]", '["a"]', "[1,1]", "[null]", '[1,"a"]', '[1,"a",2]', '["2026-01-01T00:00:00Z"]',
    "{}", '{"a":1}', '{"1":"x"}', '{"name":"n"}', '{"name":"n","age":3,"more":1}', '{"name":1}',
    '{"name":"n","age":"3"}', '{"_secret":"s"}', '{"secret":"s"}', '{"_secret":"s","kind":"k"}',
    '[{"name":"n"}]', '[{"name":"n"},{"age":1}]', '{"name":"n","children":[{"name":"m"}]}',
    '{"name":"n","children":[{"nam":"m"}]}', '{"a":[{"name":"n"}]}', '{"2026-01-01":1}',
    '{"a":"a"}', '{"a":1.5}', "[1.5]", "[true]",
]  # fmt: skip


@pytest.mark.parametrize("hint", VALUES, ids=str)
def test_all_ways_accept_and_refuse_the_same(hint: Any) -> None:
    """msgspec alone, field by field, and through the converter: one meaning of every JSON value."""
    types = twins(hint)
    for sample in SAMPLES:
        outcomes: list[tuple[str, str | None]] = []
        for kind in types:
            try:
                value = kind.decode(f'{{"id":"x","value":{sample}}}').value
                # The converter sees a number after it became a float: 100.0, no longer 1E+2.
                shown = str(float(value)) if hint is decimal.Decimal else repr(value)
                outcomes.append(("read", shown))
            except InvalidRecordError as error:
                outcomes.append(("refused", error.field))
        assert [outcomes[0]] * 3 == outcomes, sample


@pytest.mark.parametrize(
    ("hint", "sample"),
    [
        (int, "1.0"), (int, "true"), (int, '"5"'), (int, "null"), (float, "true"), (bool, "1"),
        (str, "1"), (list[str], '"abc"'), (list[int], '{"a":1}'), (dict[str, int], "[]"),
        (Status, '"gone"'), (Odd, "1.0"), (Odd, '"1"'), (tuple[int, str], "[1]"), (Path, "1"),
        (uuid.UUID, "1"), (datetime.date, "1"), (Owner, "[]"), (Owner, "{}"),
    ],
)  # fmt: skip
def test_reading_is_strict(hint: Any, sample: str) -> None:
    """No JSON value is bent into a type that it does not have."""
    for kind in twins(hint):
        with pytest.raises(InvalidRecordError) as caught:
            kind.decode(f'{{"id":"x","value":{sample}}}')
        facts = caught.value
        assert ("things", "x", "value") == (facts.collection, facts.id, facts.field)


def test_a_float_takes_an_integer() -> None:
    """JSON does not tell 1 from 1.0, so a float field reads both."""
    for kind in twins(float):
        assert [1.0, float] == [
            (found := kind.decode('{"id":"x","value":1}').value), type(found)
        ]  # fmt: skip


def test_unknown_keys_are_ignored() -> None:
    """A line of a newer version of the class can be read."""
    for kind in twins(int):
        assert 1 == kind.decode('{"id":"x","more":[1],"value":1}').value


@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [
        (float, float("nan"), "JSON has no nan"),
        (float, float("-inf"), "JSON has no -inf"),
        (list[float], [1.0, float("inf")], "JSON has no inf"),
        (Any, {"a": float("nan")}, "JSON has no nan"),
        (str, "\ud800", "lone surrogate"),
        (list[str], ["\udfff"], "lone surrogate"),
        (dict[str, int], {"\ud800": 1}, "lone surrogate"),
        (int, 10**309, "beyond the range of a double"),
        (list[int], [10**400], "beyond the range of a double"),
        (int, "5", "expected int, got str '5'"),
        (int, True, "expected int, got bool True"),
        (int, None, "expected int, got NoneType None"),
        (str, 5, "expected str, got int 5"),
        (list[str], "abc", "expected array, got str 'abc'"),
        (list[int], [1, "x"], "expected int, got str (at [1])"),
        (Status, "gone", "invalid enum value 'gone'"),
        (Any, object(), "object"),
        (Any, {1j: 2}, "keys must be strings"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(hint: Any, value: Any, reason: str) -> None:
    """A value that does not fit its field is refused when it is written, by field and reason."""
    for kind in twins(hint):
        with pytest.raises(InvalidRecordError) as caught:
            kind.encode(kind.cls(**_named(kind, value)))
        assert ("things", "x", "value") == (
            caught.value.collection, caught.value.id, caught.value.field
        )  # fmt: skip
        if kind.cls.__dict__.get("__taskstore_converter__") is None:
            assert reason in caught.value.reason


def test_nesting_beyond_the_limit_is_refused() -> None:
    """A record that no reader would take for one is not written."""
    value: Any = []
    for _ in range(200):
        value = [value]
    for kind in twins(Any):
        with pytest.raises(InvalidRecordError, match="nested deeper than 128 levels"):
            kind.encode(kind.cls(**_named(kind, value)))


def test_a_line_beyond_16_mib_is_refused() -> None:
    """The field that makes it so long is named."""
    kind = twins(str)[0]
    with pytest.raises(InvalidRecordError, match="longer than 16 MiB") as caught:
        kind.encode(kind.cls("x", "a" * 2**24))
    assert "value" == caught.value.field


@pytest.mark.parametrize("id", ["", " \n", None, 5, "x" * 257, "\ud800"])
def test_unusable_ids_are_refused(id: Any) -> None:
    """An id is checked whenever a record is written."""
    kind = twins(int)[0]
    with pytest.raises(InvalidIdError) as caught:
        kind.encode(kind.cls(id, 1))
    assert "things" == caught.value.collection


def test_sets_are_written_sorted() -> None:
    """Equal sets have equal lines, in every process."""
    for kind in twins(set[int]):
        assert b"[1,2,10]" == kind.encode(kind.cls(**_named(kind, {10, 2, 1})))["value"]


def test_nested_classes_keep_the_order_of_their_fields() -> None:
    """A person reads the fields in the order of the class, not of the alphabet."""
    for kind in twins(Owner):
        line = kind.encode(kind.cls(**_named(kind, Owner("n", 3))))
        assert b'{"name":"n","age":3}' == line["value"]


def test_an_offset_with_seconds_is_written_in_utc() -> None:
    """RFC 3339 has no such offset, and rounding it would move the instant."""
    moment = datetime.datetime(
        2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(minutes=19, seconds=32))
    )
    for kind in twins(datetime.datetime):
        raw = kind.encode(kind.cls(**_named(kind, moment)))["value"]
        assert b'"2025-12-31T23:40:28Z"' == raw


@record("converted")
class Shy:
    id: str
    title: str = attrs.field(converter=str.strip)
    _secret: int = 0
    kind: str = attrs.field(default="k", alias="type_")
    count: int = attrs.field(default=0, init=False)
    slug: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.slug = self.title.lower()


def test_converters_aliases_private_and_late_fields_are_stored() -> None:
    """Every field is stored under its name, whatever `__init__` calls it."""
    kind = RecordType.of(Shy)
    shy = Shy("x", " Title ", secret=3, type_="t")  # type: ignore[call-arg]
    shy.count = 4
    fields = kind.encode(shy)
    assert {
        "id": b'"x"', "title": b'"Title"', "_secret": b"3", "kind": b'"t"', "count": b"4",
        "slug": b'"title"',
    } == fields  # fmt: skip
    assert shy == kind.decode(join_fields(fields))
    assert "Spaced" == kind.decode('{"id":"x","title":" Spaced "}').title


@record("valid")
class Valid:
    id: str
    age: int = attrs.field(default=0, validator=attrs.validators.ge(0))


def test_validators_run_when_reading() -> None:
    """A line that breaks a validator does not fit its class; the field is named."""
    with pytest.raises(InvalidRecordError, match="must be >= 0: -1") as caught:
        RecordType.of(Valid).decode('{"id":"x","age":-1}')
    assert ("x", "age") == (caught.value.id, caught.value.field)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


money = make_converter()
money.register_structure_hook(Money, lambda value, _: Money(int(value)))
money.register_unstructure_hook(Money, lambda value: str(value.cents))


@record("invoices", converter=money)
class Invoice:
    id: str
    total: Money
    parts: list[Money] = attrs.field(factory=list)


def test_hooks_carry_types_of_ones_own() -> None:
    """A converter given to the class is asked for its fields, also inside containers."""
    kind = RecordType.of(Invoice)
    fields = kind.encode(Invoice("x", Money(250), [Money(1)]))
    assert {"id": b'"x"', "total": b'"250"', "parts": b'["1"]'} == fields
    found = kind.decode(join_fields(fields))
    assert (250, [1]) == (found.total.cents, [part.cents for part in found.parts])


def test_a_line_that_is_no_object_is_refused() -> None:
    """Also one that was not read from a log."""
    for line in ["[1]", "", '{"id":', "\udcff"]:
        with pytest.raises(InvalidRecordError, match="not a line of a record"):
            RecordType.of(Valid).decode(line)


def test_a_missing_key_is_named() -> None:
    """A field without default must be in the line."""
    for kind in twins(int):
        with pytest.raises(InvalidRecordError, match="lacks the required field value") as caught:
            kind.decode('{"id":"x"}')
        assert "value" == caught.value.field


def test_another_class_is_refused() -> None:
    """A record type writes its own class."""
    with pytest.raises(InvalidRecordError, match="expected a record of class Valid, got Invoice"):
        RecordType.of(Valid).encode(Invoice("x", Money(1)))  # type: ignore[arg-type]
