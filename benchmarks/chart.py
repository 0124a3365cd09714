"""Growth curves as plain SVG: time against the length of the log, both in powers of ten."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 20, 45
# To be told apart by anybody, on white and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_GREY = "#888888"

Points = Sequence[tuple[float, float]]


def drawing(curves: Mapping[str, Points], *, across: str, up: str) -> str:
    """Curves on a double logarithmic scale.

    Args:
        curves: Points by name, all coordinates above 0.
        across: What the horizontal axis shows.
        up: What the vertical axis shows.
    """
    points = [point for curve in curves.values() for point in curve]
    columns = _decades([x for x, _ in points])
    rows = _decades([y for _, y in points])
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'font-family="sans-serif" font-size="12" fill="{_GREY}">'
        )
    ]
    for power in range(columns[0], columns[1] + 1):
        x = _across(10.0**power, columns)
        parts.append(_line(x, _TOP, x, _HEIGHT - _BOTTOM))
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{10**power:,}", "middle"))
    for power in range(rows[0], rows[1] + 1):
        y = _up(10.0**power, rows)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(_text(_LEFT - 6, y + 4, f"{10.0**power:g}", "end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, across, "middle"))
    parts.append(_text(4, 12, up, "start"))
    for number, (name, curve) in enumerate(curves.items()):
        parts += _curve(name, curve, _COLOURS[number % len(_COLOURS)], number, columns, rows)
    return "\n".join([*parts, "</svg>", ""])


def _curve(
    name: str,
    curve: Points,
    colour: str,
    number: int,
    columns: tuple[int, int],
    rows: tuple[int, int],
) -> list[str]:
    places = [(_across(x, columns), _up(y, rows)) for x, y in curve]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    y = _TOP + 10 + 20 * number
    parts.append(f'<text x="{_WIDTH - _RIGHT + 12}" y="{y}" fill="{colour}">{escape(name)}</text>')
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _across(x: float, span: tuple[int, int]) -> float:
    return _LEFT + (math.log10(x) - span[0]) / (span[1] - span[0]) * (_WIDTH - _LEFT - _RIGHT)


def _up(y: float, span: tuple[int, int]) -> float:
    part = (math.log10(y) - span[0]) / (span[1] - span[0])
    return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{_GREY}" stroke-opacity="0.3"/>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
