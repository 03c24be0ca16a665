"""Two kinds of chart as SVG that reads well on light and dark pages: lines with bands, and values with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 88, 48
_ROW = 24
_DASHES = ["none", "7 4", "2 4"]
# Paper, ink, grid, then the colours of lines and groups.
_LIGHT = ["#ffffff", "#1f2328", "#d8dee4", "#0072b2", "#c4500a", "#00795a"]
_DARK = ["#0d1117", "#e6edf3", "#30363d", "#56b4e9", "#f0883e", "#3fd0a0"]


@dataclass(frozen=True)
class Line:
    """A named line through (x, y), in a band from the lowest to the highest value at each x."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """A value with its interval; `group` chooses the colour."""

    name: str
    value: float
    low: float
    high: float
    group: int


def line_chart(
    title: str,
    axes: tuple[str, str],
    lines: Sequence[Line],
    *,
    x_ticks: Sequence[tuple[float, str]],
    y_range: tuple[float, float],
    height: int = 400,
) -> str:
    """Lines over a common x, each with its band; `axes` are the labels of x and y."""
    low, high = x_ticks[0][0], x_ticks[-1][0]

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        share = (value - y_range[0]) / (y_range[1] - y_range[0])
        return height - _BOTTOM - share * (height - _TOP - _BOTTOM)

    parts = []
    for step in range(6):
        value = y_range[0] + (y_range[1] - y_range[0]) * step / 5
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for value, label in x_ticks:
        parts.append(
            f'<text x="{x(value):.1f}" y="{height - _BOTTOM + 20}" text-anchor="middle">{escape(label)}</text>'
        )
    parts.append(f'<text x="{WIDTH / 2:.0f}" y="{height - 8}" text-anchor="middle">{escape(axes[0])}</text>')
    parts.append(f'<text x="{_LEFT - 44}" y="{_TOP - 14}">{escape(axes[1])}</text>')
    for index, line in enumerate(lines):
        upper = [f"{x(at):.1f},{y(top):.1f}" for (at, _), (_, top) in zip(line.points, line.band, strict=True)]
        lower = [f"{x(at):.1f},{y(end):.1f}" for (at, _), (end, _) in zip(line.points, line.band, strict=True)]
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        parts.append(f'<polygon class="band f{index}" points="{" ".join(upper + lower[::-1])}"/>')
        parts.append(f'<polyline class="line l{index}" stroke-dasharray="{_DASHES[index]}" points="{path}"/>')
    return _document(title, height, [*_legend([line.name for line in lines], dashed=True), *parts])


def interval_chart(
    title: str,
    axis: str,
    rows: Sequence[Row],
    *,
    groups: Sequence[str],
    x_range: tuple[float, float],
    mark: float,
) -> str:
    """One row a value; `mark` is a value that the others are compared with, drawn as a vertical line."""
    left = 210
    height = _TOP + _ROW * len(rows) + _BOTTOM

    def x(value: float) -> float:
        return left + (value - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - left - _RIGHT)

    parts = []
    bottom = height - _BOTTOM
    for step in range(6):
        value = x_range[0] + (x_range[1] - x_range[0]) * step / 5
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP - 12}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:.2f}</text>')
    parts.append(f'<line class="mark" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{_TOP - 12}" y2="{bottom}"/>')
    parts.append(f'<text x="{WIDTH / 2:.0f}" y="{height - 8}" text-anchor="middle">{escape(axis)}</text>')
    for index, row in enumerate(rows):
        at = _TOP + _ROW * index + 4
        parts.append(f'<text x="{left - 12}" y="{at + 4}" text-anchor="end">{escape(row.name)}</text>')
        parts.append(
            f'<line class="line l{row.group}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{at}" y2="{at}"/>'
        )
        parts.append(f'<circle class="f{row.group}" cx="{x(row.value):.1f}" cy="{at}" r="5"/>')
    return _document(title, height, [*_legend(groups, dashed=False), *parts])


def _legend(names: Sequence[str], *, dashed: bool) -> list[str]:
    parts = []
    at = 14.0
    for index, name in enumerate(names):
        dash = _DASHES[index] if dashed else "none"
        parts.append(
            f'<line class="line l{index}" stroke-dasharray="{dash}" x1="{at}" x2="{at + 30}" y1="42" y2="42"/>'
        )
        parts.append(f'<text x="{at + 38}" y="46">{escape(name)}</text>')
        at += 62 + 7.2 * len(name)
    return parts


def _document(title: str, height: int, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">
<title>{escape(title)}</title>
<style>
text {{ font: 13px system-ui, sans-serif; }}
.title {{ font-weight: 600; font-size: 15px; }}
.line {{ fill: none; stroke-width: 2.5; }}
.mark {{ stroke-width: 1.5; stroke-dasharray: 4 3; }}
.band {{ opacity: 0.15; }}
{_colours(_LIGHT)}
@media (prefers-color-scheme: dark) {{
{_colours(_DARK)}
}}
</style>
<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>
<text class="title" x="14" y="24">{escape(title)}</text>
{body}
</svg>
"""


def _colours(theme: Sequence[str]) -> str:
    paper, ink, grid, *lines = theme
    rules = [
        f".paper {{ fill: {paper}; }}",
        f"text {{ fill: {ink}; }}",
        f".grid {{ stroke: {grid}; }}",
        f".mark {{ stroke: {ink}; }}",
    ]
    for index, colour in enumerate(lines):
        rules.append(f".l{index} {{ stroke: {colour}; }} .f{index} {{ fill: {colour}; }}")
    return "\n".join(rules)
