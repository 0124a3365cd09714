"""Filters as data: the results of `where`, and `Filter(field, op, value)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from types import MemberDescriptorType
from typing import Any, ClassVar, NoReturn

import attrs

from taskstore._format.names import check_field_name
from taskstore.errors import InvalidFilterError

MAX_TESTS = 500
"""The greatest number of single tests in one condition; SQLite limits the size of expressions."""

MAX_NESTING = 64
"""How deep `&`, `|` and `~` may be nested in one another."""


class FilterOp(StrEnum):
    """The operator of a filter."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    CONTAINS = "contains"
    IN = "in"
    IS_NONE = "is_none"


_SIGNS = {
    FilterOp.EQ: "==",
    FilterOp.NE: "!=",
    FilterOp.LT: "<",
    FilterOp.LE: "<=",
    FilterOp.GT: ">",
    FilterOp.GE: ">=",
}


class Condition:
    """A condition that a record meets or not. Combine conditions with `&`, `|` and `~`.

    A condition has no truth value. `and`, `or`, `not`, `if` and chained comparisons would drop one
    half, so they raise InvalidFilterError.
    """

    __slots__ = ()

    size: ClassVar[Any] = 1
    """The number of single tests in it."""

    depth: ClassVar[Any] = 1
    """How deep it is nested."""

    def __and__(self, other: Condition) -> Condition:
        return _joined(And, self, _condition(other))

    def __or__(self, other: Condition) -> Condition:
        return _joined(Or, self, _condition(other))

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise InvalidFilterError(
            f"the filter {self} is neither true nor false by itself: join filters with & | ~ "
            "(each in parentheses), not with and, or, not, or a chain such as 1 < x < 5"
        )


def _op(value: str) -> FilterOp:
    try:
        return FilterOp(value)
    except ValueError:
        known = ", ".join(op.value for op in FilterOp)
        raise InvalidFilterError(f"unknown filter operator {value!r}: use one of {known}") from None


def _field_name(field: object) -> str:
    return check_field_name(
        field.__name__ if isinstance(field, MemberDescriptorType) else _plain(field)
    )


def _plain(field: object) -> object:
    return field.name if isinstance(field, Field) else field


def _owner(field: object) -> type | None:
    if isinstance(field, Field):
        return field.owner
    return field.__objclass__ if isinstance(field, MemberDescriptorType) else None


def _operand(value: Any, self_: Filter) -> Any:
    if isinstance(value, (Condition, Field)):
        raise InvalidFilterError(
            f"field {self_.field!r} cannot be compared with another filter or field, "
            "only with a value"
        )
    if self_.op is not FilterOp.IN:
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidFilterError(
            f"field {self_.field!r}: in_ takes a list, set or tuple of values, not {value!r}"
        )
    return tuple(value)


@attrs.frozen(init=False, repr=False)
class Filter(Condition):
    """One test of one field: `Filter("status", FilterOp.EQ, "active")`.

    Use it like any condition. `where("status") == "active"` builds the same.

    Attributes:
        field: The name of the field.
        op: The operator, or its value as a string.
        value: The value to compare with: several values for IN, a bool for IS_NONE.
        owner: The class whose attribute named the field, if any.

    Raises:
        InvalidNameError: It is not a valid field name.
        InvalidFilterError: The operator is unknown, or it does not accept the value.
    """

    field: str
    op: FilterOp
    value: Any
    owner: type | None = attrs.field(eq=False)

    def __init__(self, field: object, op: FilterOp | str, value: Any = True) -> None:
        set_ = object.__setattr__
        set_(self, "field", _field_name(field))
        set_(self, "op", _op(op))
        set_(self, "owner", _owner(field))
        set_(self, "value", _operand(value, self))

    def __str__(self) -> str:
        if self.op is FilterOp.IS_NONE:
            return f"{self.field} is {'' if self.value else 'not '}None"
        if self.op is FilterOp.CONTAINS:
            return f"{self.field} contains {_short(self.value)}"
        if self.op is FilterOp.IN:
            return f"{self.field} in {_short(list(self.value[:11]))}"
        return f"{self.field} {_SIGNS[self.op]} {_short(self.value)}"

    __repr__ = __str__


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@attrs.frozen(repr=False)
class _Several(Condition):
    parts: tuple[Condition, ...]
    size: int = attrs.field(default=0, eq=False)  # type: ignore[misc]
    depth: int = attrs.field(default=1, eq=False)  # type: ignore[misc]

    def __iter__(self) -> Iterator[Condition]:
        return iter(self.parts)

    def __str__(self) -> str:
        word = " and " if isinstance(self, And) else " or "
        return word.join(
            f"({part})" if isinstance(part, _Several) else str(part) for part in self.parts
        )

    __repr__ = __str__


class And(_Several):
    """A condition that is met if all of its parts are met."""

    __slots__ = ()


class Or(_Several):
    """A condition that is met if at least one of its parts is met."""

    __slots__ = ()


@attrs.frozen(repr=False)
class Not(Condition):
    """A condition that is met if its part is not met."""

    part: Condition
    size: int = attrs.field(init=False, eq=False)  # type: ignore[misc]
    depth: int = attrs.field(init=False, eq=False)  # type: ignore[misc]

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "size", self.part.size)
        object.__setattr__(self, "depth", _nested([self.part]))

    def __invert__(self) -> Condition:
        return self.part

    def __str__(self) -> str:
        return f"not ({self.part})"

    __repr__ = __str__


def _joined(kind: type[And] | type[Or], *conditions: Condition) -> Condition:
    """Join conditions without nesting: a chain of one kind is one node, however long."""
    parts: list[Condition] = []
    for condition in conditions:
        parts.extend(condition.parts if isinstance(condition, kind) else (condition,))
    size = sum(part.size for part in parts)
    if size > MAX_TESTS:
        raise InvalidFilterError(
            f"a condition may have at most {MAX_TESTS} tests, not {size}: to ask for one of many "
            "values use in_"
        )
    return kind(tuple(parts), size, _nested(parts))


def _nested(parts: Iterable[Condition]) -> int:
    depth: int = 1 + max(part.depth for part in parts)
    if depth > MAX_NESTING:
        raise InvalidFilterError(
            f"a condition may nest & | ~ up to {MAX_NESTING} levels deep: write it flatter"
        )
    return depth


class Field:
    """A field to compare or to sort by. `where` makes it.

    A comparison gives a Condition. The meaning is Python's: a missing value is None, `!=` includes
    it, and `<` or `>` with None, or between different types, is false.
    """

    __slots__ = ("name", "owner")

    def __init__(self, name: str, owner: type | None = None) -> None:
        self.name = name
        self.owner = owner

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Filter(self, FilterOp.EQ, value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Filter(self, FilterOp.NE, value)

    def __lt__(self, value: Any) -> Condition:
        return Filter(self, FilterOp.LT, value)

    def __le__(self, value: Any) -> Condition:
        return Filter(self, FilterOp.LE, value)

    def __gt__(self, value: Any) -> Condition:
        return Filter(self, FilterOp.GT, value)

    def __ge__(self, value: Any) -> Condition:
        return Filter(self, FilterOp.GE, value)

    # `==` is not an equivalence here, so a set or dict of fields would be wrong.
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        raise InvalidFilterError(
            f"where({self.name!r}) has no truth value: compare it, as in where({self.name!r}) == 1"
        )

    def __contains__(self, value: object) -> NoReturn:
        raise InvalidFilterError(
            f"use where({self.name!r}).contains(value) in place of `value in where(...)`"
        )

    def contains(self, value: Any) -> Condition:
        """The field is a string that contains `value`, or a list that has it as a member.

        The match is literal and case-sensitive: `%`, `_` and `*` have no special meaning.
        """
        return Filter(self, FilterOp.CONTAINS, value)

    def in_(self, values: Iterable[Any]) -> Condition:
        """The field equals one of the values (any number of them; None is a value too)."""
        return Filter(self, FilterOp.IN, values)

    def not_in(self, values: Iterable[Any]) -> Condition:
        """The field equals none of the values."""
        return Not(Filter(self, FilterOp.IN, values))

    def is_(self, value: None) -> Condition:
        """The field is None or missing."""
        return Filter(self, FilterOp.IS_NONE, _only_none(value, "is_"))

    def is_not(self, value: None) -> Condition:
        """The field is there and not None."""
        return Filter(self, FilterOp.IS_NONE, not _only_none(value, "is_not"))

    def asc(self) -> Order:
        """Sort by this field, None first."""
        return Order(self.name, descending=False, owner=self.owner)

    def desc(self) -> Order:
        """Sort by this field in descending order, None last."""
        return Order(self.name, descending=True, owner=self.owner)

    def __repr__(self) -> str:
        return f"where({self.name!r})"


def _only_none(value: object, name: str) -> bool:
    if value is not None:
        raise InvalidFilterError(f"{name} takes None only: compare other values with == and !=")
    return True


@attrs.frozen
class Order:
    """Sort by one field.

    Attributes:
        field: Its name.
        descending: Whether the greatest value comes first.
        owner: The class whose attribute named the field, if any.
    """

    field: str
    descending: bool = False
    owner: type | None = attrs.field(default=None, eq=False, repr=False)


def where(field: object, /) -> Field:
    """Name a field to filter or sort by: `where("status") == "active"`, `where(Plan.status)`.

    Args:
        field: A field's name, or the attribute of a slotted record class.

    Raises:
        InvalidNameError: It is not a valid field name.
    """
    return Field(_field_name(field), _owner(field))


def all_of(conditions: Iterable[object]) -> Condition | None:
    """Return one condition that is met if all filters are met; None if there are no filters.

    Raises:
        InvalidFilterError: One of them is not a filter.
    """
    checked = [_condition(condition) for condition in conditions]
    if len(checked) < 2:
        return checked[0] if checked else None
    return _joined(And, *checked)


def _condition(condition: object) -> Condition:
    if isinstance(condition, Condition):
        return condition
    hint = ""
    if isinstance(condition, bool):
        hint = ": a comparison with a class attribute is plain Python, write where(Plan.status) == "
        hint += '"active"'
    elif isinstance(condition, Field):
        hint = ": compare it with something"
    raise InvalidFilterError(f"{condition!r} is not a filter{hint}")
