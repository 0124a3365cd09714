"""Declaring record classes: what is made of them, and what is refused where it is declared."""

from __future__ import annotations

import datetime
import enum
import threading
import typing
import uuid
from typing import Any

import attrs
import pytest

from taskstore._records.declare import evolve, indexed, record
from taskstore._records.indexing import IndexField
from taskstore._records.types import RecordType
from taskstore.errors import InvalidDeclarationError, InvalidNameError, UnknownFieldError


class Status(enum.Enum):
    DRAFT = "draft"
    ACTIVE = "active"


class Mixed(enum.Enum):
    TEXT = "a"
    NUMBER = 1


@record("plans")
class Plan:
    id: str
    title: str
    status: str = indexed(default="draft")
    priority: int = indexed(default=0, merge="max")
    updated_at: int = 0


def test_a_record_class_is_a_slotted_attrs_class() -> None:
    """Fields are attributes of the class, so that `where(Plan.status)` can name them."""
    plan = Plan("p", "t", priority=3)
    assert (True, False) == (attrs.has(Plan), hasattr(plan, "__dict__"))
    assert ["status", Plan] == [Plan.status.__name__, Plan.status.__objclass__]  # type: ignore[attr-defined]
    assert Plan("p", "t", "draft", 3) == plan


def test_its_facts_are_read_once() -> None:
    """`RecordType.of` makes the type of a class once, and each class has its own."""
    kind = RecordType.of(Plan)
    assert kind is RecordType.of(Plan)
    assert ("plans", "Plan", Plan) == (kind.collection, kind.name, kind.cls)
    assert ["id", "title", "status", "priority", "updated_at"] == list(kind.fields)
    assert (IndexField("status", "string", '"draft"'), IndexField("priority", "int", "0")) == (
        kind.index_fields
    )
    assert {"priority": "max"} == dict(kind.merge_policies)
    field = kind.field("title")
    assert (str, None, True) == (field.type, field.default_json, field.required)


def test_an_unknown_field_is_named_with_the_nearest() -> None:
    """A typing mistake says what was probably meant."""
    with pytest.raises(UnknownFieldError, match="did you mean 'status'") as caught:
        RecordType.of(Plan).field("statsu")
    assert ("statsu", "Plan", "status") == (
        caught.value.field, caught.value.type_name, caught.value.nearest
    )  # fmt: skip


def test_a_class_that_is_attrs_already_is_left_as_it_is() -> None:
    """Only its collection is noted."""

    @attrs.define(slots=False, order=True)
    class Note:
        id: str

    assert Note is record("notes")(Note)
    assert "notes" == RecordType.of(Note).collection


def test_frozen_and_keyword_only_are_passed_on() -> None:
    """The options of `record` are those of attrs."""

    @record("notes", frozen=True, kw_only=True)
    class Note:
        id: str
        title: str = ""

    with pytest.raises(TypeError):
        Note("x")  # type: ignore[call-arg]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Note(id="x").title = "t"  # type: ignore[misc]


def test_options_for_a_class_that_is_attrs_already_are_refused() -> None:
    """They could not be followed."""

    @attrs.define
    class Note:
        id: str

    with pytest.raises(InvalidDeclarationError, match="is an attrs class already"):
        record("notes", frozen=True)(Note)


def test_a_record_class_may_be_the_parent_of_another() -> None:
    """The child has the parent's fields and a collection of its own."""

    @record("children")
    class Child(Plan):
        extra: str = "e"

    assert ["plans", "children"] == [
        RecordType.of(Plan).collection,
        RecordType.of(Child).collection,
    ]
    assert "e" == RecordType.of(Child).decode('{"id":"x","title":"t"}').extra
    assert ["status", "priority"] == [field.name for field in RecordType.of(Child).index_fields]


def test_a_child_that_is_not_decorated_is_no_record_class() -> None:
    """Its records would land in the parent's collection and come back as parents."""

    class Child(Plan):
        pass

    with pytest.raises(InvalidDeclarationError, match="is a subclass of a record class of 'plans'"):
        RecordType.of(Child)


@pytest.mark.parametrize("cls", [int, "plans", None, Status])
def test_other_things_are_no_record_classes(cls: Any) -> None:
    """The error says how to make one."""
    with pytest.raises(InvalidDeclarationError, match="is not a record class: decorate it"):
        RecordType.of(cls)


def test_local_names_in_annotations_are_found() -> None:
    """A class declared in a function may use that function's classes."""

    class Local(enum.Enum):
        A = "a"

    @record("notes")
    class Note:
        id: str
        kind: Local = indexed(default=Local.A)

    assert Local.A is RecordType.of(Note).decode('{"id":"x"}').kind
    assert (IndexField("kind", "string", '"a"'),) == RecordType.of(Note).index_fields


@record("trees")
class Tree:
    id: str
    other: Later | None = None
    children: list[Tree] = attrs.field(factory=list)


@attrs.define
class Later:
    name: str


def test_forward_references_are_resolved_at_first_use() -> None:
    """A class may name one that is declared below it, and itself."""
    found = RecordType.of(Tree).decode('{"id":"a","other":{"name":"n"},"children":[{"id":"b"}]}')
    assert Tree("a", Later("n"), [Tree("b")]) == found


def test_a_name_that_never_appears_is_an_error_at_first_use() -> None:
    """The error names it."""

    @record("notes")
    class Note:
        id: str
        other: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidDeclarationError, match="'Nowhere' is not defined"):
        RecordType.of(Note)


def declared(**fields: Any) -> Any:
    """A record class of these annotations, or pairs of annotation and default."""
    body: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
    for name, hint in fields.items():
        body["__annotations__"][name], *default = hint if isinstance(hint, tuple) else (hint,)
        if default:
            body[name] = default[0]
    return record("things")(type("Thing", (), body))


INDEXABLE = [
    (str, "string"), (int, "int"), (float, "float"), (bool, "bool"), (uuid.UUID, "uuid"),
    (datetime.datetime, "datetime"), (datetime.date, "date"), (Status, "string"),
    (str | None, "string"), (datetime.datetime | None, "datetime"), (Status | None, "string"),
    (typing.Literal["a", "b"], "string"), (typing.NewType("Key", str), "string"),
    (typing.Annotated[int, "metres"], "int"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "expected"), INDEXABLE, ids=str)
def test_scalars_can_be_indexed(hint: Any, expected: str) -> None:
    """Each by the type that its JSON values have."""
    kind = RecordType.of(declared(id=str, value=(hint, indexed())))
    assert (IndexField("value", expected, None),) == kind.index_fields


@pytest.mark.parametrize(
    "hint", [list[str], dict[str, int], str | int, Mixed, bytes, Plan, Any, set[str], None], ids=str
)
def test_nothing_else_can_be_indexed(hint: Any) -> None:
    """The error names the type and what may be indexed."""
    with pytest.raises(InvalidDeclarationError, match="cannot be indexed: only str, int") as caught:
        declared(id=str, value=(hint, indexed()))
    assert ("Thing", "value") == (caught.value.type_name, caught.value.field)


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"title": str}, None, "has no field `id`"),
        ({"id": int}, "id", "must be declared as str, not int"),
        ({"id": str | None}, "id", "must be declared as str, not str | None"),
        ({"id": str, "updated_at": (float, 0.0)}, "updated_at", "not float"),
        ({"id": str, "updated_at": (bool, False)}, "updated_at", "not bool"),
        ({"id": str, "updated_at": None}, "updated_at", "not None"),
        ({"id": str, "updated_at": (int, indexed(default=0))}, "updated_at", "without indexed()"),
        ({"id": str, "deleted": (bool, False)}, "deleted", "is reserved"),
        ({"id": str, "value": (str, None)}, "value", "declare it as `str | None`"),
        ({"id": str, "value": (int, "1")}, "value", "default '1' does not fit its type"),
        ({"id": str, "value": (int, indexed(default=1.5))}, "value", "does not fit its type"),
        ({"id": str, "value": (float, float("nan"))}, "value", "JSON has no nan"),
        ({"id": str, "value": threading.Thread}, "value", "Thread cannot be stored"),
        ({"id": str, "value": list[complex]}, "value", "complex cannot be stored"),
        ({"id": str, "value": str | datetime.datetime}, "value", "cannot be stored"),
        ({"id": str, "value": (int, attrs.field(metadata={"taskstore.merge": "most"}))}, "value",
         "unknown merge policy 'most'"),
        ({"id": (str, "x"), "value": int}, None, "No mandatory attributes allowed"),
    ],
)  # fmt: skip
def test_what_could_not_be_stored_is_refused(
    fields: dict[str, Any], field: str | None, reason: str
) -> None:
    """A wrong declaration raises where the class is defined, and names the field."""
    with pytest.raises(InvalidDeclarationError) as caught:
        declared(**fields)
    assert ("Thing", field) == (caught.value.type_name, caught.value.field)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "hint", [int, str, datetime.datetime, int | None, int | str, datetime.datetime | None], ids=str
)
def test_versions_have_three_forms(hint: Any) -> None:
    """Milliseconds, text, a datetime, and whatever is made of these."""
    assert hint == RecordType.of(declared(id=str, updated_at=hint)).field("updated_at").type


@pytest.mark.parametrize("name", ["größe", "a" * 65])
def test_field_names_are_ascii(name: str) -> None:
    """A field that no filter could name cannot be declared."""
    with pytest.raises(InvalidNameError, match="invalid field name"):
        declared(id=str, **{name: int})


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "..", 5, None])
def test_collection_names_are_checked(name: Any) -> None:
    """Before anything is made of the class."""
    with pytest.raises(InvalidNameError, match="invalid collection name"):
        record(name)


def test_a_decorator_without_a_name_says_what_it_needs() -> None:
    """`@record` without parentheses gets the class as its name."""
    with pytest.raises(InvalidDeclarationError, match="needs the name of a collection"):
        record(Status)  # type: ignore[call-overload,arg-type,unused-ignore]


def test_only_classes_can_be_decorated() -> None:
    """Anything else is refused with its name."""
    with pytest.raises(InvalidDeclarationError, match="decorates classes only"):
        record("plans")(len)  # type: ignore[arg-type]


def test_unknown_merge_policies_are_refused() -> None:
    """Where they are written, with the nearest."""
    with pytest.raises(InvalidDeclarationError, match="did you mean 'union'"):
        indexed(default=0, merge="unio")


def test_a_default_and_a_factory_are_refused() -> None:
    """One of them would be lost."""
    with pytest.raises(InvalidDeclarationError, match="a default or a factory, not both"):
        indexed(default=0, factory=int)  # type: ignore[call-overload]


def test_indexed_is_a_field_of_attrs() -> None:
    """Validators, aliases, keyword-only and metadata work as in attrs."""

    @record("things")
    class Thing:
        id: str
        size: int = indexed(
            default=0,
            validator=attrs.validators.ge(0),
            alias="width",
            kw_only=True,
            metadata={"unit": "mm"},
        )

    with pytest.raises(ValueError, match=">= 0"):
        Thing("x", width=-1)  # type: ignore[call-arg,unused-ignore]
    fields = attrs.fields_dict(Thing)  # type: ignore[arg-type]
    assert "mm" == fields["size"].metadata["unit"]


def test_a_factory_of_its_own_is_no_default_for_filters() -> None:
    """What it will make next cannot be known; what a built-in type makes can."""

    @record("things")
    class Thing:
        id: str
        made: int = indexed(factory=lambda: 5)
        zero: int = indexed(factory=int)

    assert (IndexField("made", "int", None), IndexField("zero", "int", "0")) == (
        RecordType.of(Thing).index_fields
    )


def test_evolve_copies_with_changes() -> None:
    """The record itself stays as it was."""
    plan = Plan("p", "t")
    assert Plan("p", "t", "active") == evolve(plan, status="active")
    assert Plan("p", "t") == plan


def test_evolve_takes_field_names_and_keeps_late_fields() -> None:
    """Private and `init=False` fields are named like all others."""

    @record("things")
    class Thing:
        id: str
        _secret: int = 0
        count: int = attrs.field(default=0, init=False)

    thing = Thing("x")
    thing.count = 4
    changed = evolve(thing, _secret=3)
    assert ("x", 3, 4) == (changed.id, changed._secret, changed.count)
    assert 5 == evolve(changed, count=5).count


def test_evolve_names_the_nearest_field() -> None:
    """An unknown change is refused."""
    with pytest.raises(UnknownFieldError, match="did you mean 'title'"):
        evolve(Plan("p", "t"), titel="x")


class Absent(enum.Enum):
    UNKNOWN = None
    KNOWN = "known"


class Pair(enum.Enum):
    LOW = (1, 2)
    HIGH = (3, 4)


class Nested:
    @attrs.define
    class Part:
        state: Absent | None = None


@pytest.mark.parametrize(
    ("hint", "reason"),
    [
        (Absent | None, "`| None` away"),
        (list[Absent | None], "`| None` away"),
        (dict[str, Absent | None], "`| None` away"),
        (Nested.Part, "`| None` away"),
        (Pair, "that JSON changes"),
        (Pair | None, "that JSON changes"),
    ],
)
def test_an_enum_that_would_be_read_back_as_another_member_is_refused(hint, reason) -> None:
    """A field whose Enum cannot be told apart in JSON is refused when the class is declared."""
    with pytest.raises(InvalidDeclarationError, match="state") as caught:
        record("things")(type("Thing", (), {"__annotations__": {"id": str, "state": hint}}))

    assert reason in str(caught.value)


def test_an_enum_with_a_none_member_alone_is_read_back_as_that_member() -> None:
    """Without `| None`, null has one reading: the member whose value is None."""

    @record("things")
    class Thing:
        id: str
        state: Absent

    assert Absent.UNKNOWN is RecordType.of(Thing).decode('{"id":"1","state":null}').state
