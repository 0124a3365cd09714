"""Gives the attributes of a model their keys in its lines."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from taskstore._mirror.model.shape import NUMBER, Shape


def with_keys(shapes: Iterable[Shape], key: tuple[str, ...]) -> tuple[Shape, ...]:
    """Return the shapes of a model with a key of the line for each attribute.

    An attribute whose name lines use for something else gets that name with a `_` behind it.

    Args:
        shapes: All of the model.
        key: The attributes whose values make the id.
    """
    shapes = tuple(shapes)
    reserved = {"updated_at", "deleted"} | ({"id"} - set(key))
    if any(shape.fields[name].is_own for shape in shapes for name in key):
        reserved.add(NUMBER)
    names = {name for shape in shapes for name in shape.fields}
    keys = {name: name for name in names - reserved}
    for name in sorted(names & reserved):
        other = f"{name}_"
        while other in names:
            other += "_"
        keys[name] = other
    return tuple(
        attrs.evolve(
            shape,
            fields={name: attrs.evolve(f, key=keys[name]) for name, f in shape.fields.items()},
        )
        for shape in shapes
    )
