"""Lines of regret as an SVG that reads on light and on dark pages; no plotting library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 820, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 226, 48, 52
_POINTS = 200
# Told apart by people who see no red or no green as well (Okabe and Ito, 2008).
_FAMILIES = {
    "PHO": ("#0072B2", "#56B4E9", "#3a5fcd", "#00a0b0", "#8c6bb1"),
    "River": ("#D55E00", "#E69F00"),
    "VW": ("#009E73", "#CC79A7"),
    "": ("#8c8c8c",),
}
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .faint { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .faint { fill: #9198a1; }
    .grid { stroke: #3d444d; }
  }
"""


def picture(title: str, lines: Mapping[str, Sequence[float]]) -> str:
    """Draw cumulated regret against visits.

    Parameters
    ----------
    title : str
        Stands above.
    lines : mapping of str to sequence of float
        By name (its first word tells the family) the regret after each visit; at least two, all
        of one length, above 1.

    Returns
    -------
    str
        A whole SVG document.
    """
    count = len(next(iter(lines.values())))
    # Whoever learns nothing would press all others to the ground: its line leaves the picture.
    top = nice(1.02 * sorted(line[-1] for line in lines.values())[-2])
    ticks = "".join(_level(top * part / 4, top) for part in range(5))
    ticks += "".join(_visits(count * part // 4, count) for part in range(5))
    # The names stand at the ends of their lines, moved apart where they would overlap.
    ends = sorted(((line[-1], name) for name, line in lines.items()), reverse=True)
    places = _apart([_y(min(value, top), top) for value, _ in ends])
    colours = _colours(lines)
    drawn = "".join(_line(line, top, colours[name]) for name, line in lines.items())
    named = "".join(
        f'<text x="{WIDTH - _RIGHT + 8}" y="{y + 4:.1f}" style="fill:{colours[name]}">'
        f"{escape(name)} {value:,.0f}</text>\n"
        for (value, name), y in zip(ends, places, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<text class="title" x="16" y="26">{escape(title)}</text>\n{ticks}'
        f'<text class="faint" x="{(WIDTH - _RIGHT + _LEFT) / 2:.0f}" y="{HEIGHT - 12}" '
        f'text-anchor="middle">visits</text>\n{drawn}{named}</svg>\n'
    )


def nice(value: float) -> float:
    """Return the next round number that four ticks divide: 4, 8, 12, 20, 40 … times ten."""
    size = 1.0
    while True:
        for step in (4.0, 8.0, 12.0, 20.0):
            if value <= step * size:
                return step * size
        size *= 10.0


def _x(place: int, count: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * place / count


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _level(value: float, top: float) -> str:
    y = _y(value, top)
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>\n'
        f'<text class="faint" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.0f}</text>'
        "\n"
    )


def _visits(place: int, count: int) -> str:
    return (
        f'<text class="faint" x="{_x(place, count):.1f}" y="{HEIGHT - _BOTTOM + 18}" '
        f'text-anchor="middle">{place:,}</text>\n'
    )


def _line(line: Sequence[float], top: float, colour: str) -> str:
    count = len(line)
    wanted = sorted({*range(0, count, max(1, count // _POINTS)), count - 1})
    places = [place for place in wanted if line[place] <= top]
    points = " ".join(f"{_x(place + 1, count):.1f},{_y(line[place], top):.1f}" for place in places)
    return f'<polyline class="line" stroke="{colour}" points="{points}"/>\n'


def _colours(names: Iterable[str]) -> dict[str, str]:
    left = {family: iter(colours) for family, colours in _FAMILIES.items()}
    found = {}
    for name in names:
        family = name.partition(" ")[0]
        found[name] = next(left[family if family in left else ""])
    return found


def _apart(places: Sequence[float], gap: float = 15.0) -> list[float]:
    """Move rising places apart to at least a gap, then up again where they left the picture."""
    moved: list[float] = []
    for y in places:
        moved.append(max(y, moved[-1] + gap) if moved else y)
    lowest = float(HEIGHT - _BOTTOM)
    for place in range(len(moved) - 1, -1, -1):
        moved[place] = min(moved[place], lowest)
        lowest = moved[place] - gap
    return moved
