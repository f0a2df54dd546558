"""The 1F1B timeline as a picture (SVG), drawn from the computed start and end of every pass."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from train.planning.timeline import BACKWARD, FORWARD, Timeline

WIDTH, ROW, GAP, LEFT, RIGHT, HEADER = 1200, 26, 6, 96, 24, 34
COLOURS = {FORWARD: "#4477aa", BACKWARD: "#66aa77"}
NARROWEST_LABEL = 13
"""Pixels below which a pass carries no number."""


def draw(timelines: Sequence[tuple[str, Timeline]], unit: str) -> str:
    """Several timelines below each other, on one scale of time.

    Args:
        timelines: (title, timeline).
        unit: of the times, such as `s`.
    """
    longest = max((timeline.length for _, timeline in timelines), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts: list[str] = []
    top = 10.0
    for title, timeline in timelines:
        top = _draw_one(parts, title, timeline, scale, top)
    parts.append(_axis(top, scale, longest, unit))
    height = top + 42
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">\n'
        f"<title>{escape('1F1B timeline: ' + '; '.join(title for title, _ in timelines))}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _draw_one(parts: list[str], title: str, timeline: Timeline, scale: float, top: float) -> float:
    parts.append(
        f'<text x="{LEFT}" y="{top + 16:g}" font-size="14" font-weight="bold">{escape(title)}</text>'
    )
    first = top + HEADER - 8
    for number in range(len(timeline.stages)):
        y = first + number * (ROW + GAP)
        parts.append(f'<text x="{LEFT - 8}" y="{y + ROW * 0.68:g}" text-anchor="end">stage {number}</text>')
        parts.append(
            f'<rect x="{LEFT}" y="{y:g}" width="{timeline.length * scale:.2f}" height="{ROW}" fill="#eeeeee"/>'
        )
    for item in timeline.passes:
        x, width = LEFT + item.start * scale, (item.end - item.start) * scale
        if width <= 0:
            continue
        y = first + item.stage * (ROW + GAP)
        parts.append(
            f'<rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{ROW}" fill="{COLOURS[item.kind]}" '
            f'stroke="#ffffff" stroke-width="0.6"><title>{item.kind} {item.micro_batch}</title></rect>'
        )
        if width >= NARROWEST_LABEL:
            parts.append(
                f'<text x="{x + width / 2:.2f}" y="{y + ROW * 0.66:g}" text-anchor="middle" font-size="10" '
                f'fill="#ffffff">{item.micro_batch}</text>'
            )
    return first + len(timeline.stages) * (ROW + GAP) + 8


def _axis(top: float, scale: float, longest: float, unit: str) -> str:
    ticks = "".join(
        f'<text x="{LEFT + share * longest * scale:.1f}" y="{top + 14:g}" text-anchor="middle">'
        f"{share * longest:.3g}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    legend = "".join(
        f'<rect x="{LEFT + 110 * place}" y="{top + 22:g}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{LEFT + 110 * place + 18}" y="{top + 32:g}">{name}</text>'
        for place, (name, colour) in enumerate([*COLOURS.items(), ("idle", "#eeeeee")])
    )
    return f'{ticks}<text x="{LEFT - 8}" y="{top + 14:g}" text-anchor="end">{escape(unit)}</text>{legend}'
