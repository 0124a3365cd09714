"""How many examples a property test tries."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def share(part: float, **options: Any) -> settings:
    """Return settings for so many times the examples of the profile, with more options."""
    assert settings.default is not None
    return settings(max_examples=max(1, int(settings.default.max_examples * part)), **options)
