"""Classes of other libraries that are not record classes, and what to do instead."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any


def why_foreign(cls: Any) -> str | None:
    """Return why a class cannot be a record class; None for any that can."""
    if not isinstance(cls, type):
        return None
    if typing.is_typeddict(cls):
        return (
            "is a TypedDict, whose instances are plain dicts: name the collection instead, as in "
            'create("<collection>", {...})'
        )
    if issubclass(cls, tuple):
        return "is a tuple, and a record is an object with fields: declare a plain class"
    if hasattr(cls, "__pydantic_fields__") or hasattr(cls, "__fields_set__"):
        return (
            "is a Pydantic model, which checks its fields itself: declare a plain class for the "
            'store, or write create("<collection>", model.model_dump(mode="json"))'
        )
    if hasattr(cls, "__struct_fields__"):
        return (
            "is a msgspec Struct: declare a plain class for the store, or write "
            'create("<collection>", msgspec.to_builtins(struct))'
        )
    if hasattr(cls, "__mapper__"):
        return "is a mapped class of SQLAlchemy: open the store with mirrors=[...] (see mirrored)"
    if "__dataclass_fields__" in cls.__dict__ and dataclasses.is_dataclass(cls):
        return "is a dataclass: remove @dataclass, because @record makes the class"
    return None
