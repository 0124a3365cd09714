"""Making instances of attrs classes from field values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from taskstore._records.reasons import StructureError

__all__ = ["build"]


def build(cls: Any, values: Mapping[str, Any]) -> Any:
    """Make an instance from field values by name; what is missing gets its default.

    Raises:
        StructureError: A field without default is missing.
    """
    arguments = {}
    later = []
    for field in attrs.fields(cls):
        if field.name in values:
            if field.init:
                arguments[field.alias] = values[field.name]
            else:
                later.append(field.name)
        elif field.init and field.default is attrs.NOTHING:
            raise StructureError(f"lacks the required field {field.name}")
    made = cls(**arguments)
    for name in later:
        # Frozen or not, and past hooks that would take it for a change.
        object.__setattr__(made, name, values[name])
    return made
