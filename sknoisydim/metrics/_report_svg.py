"""Small pictures for the card of a report: SVG text, drawn in the colour of the text around."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi

from ._information import InformationEstimate
from ._reference import FloatArray
from ._report import Pictures

#: Side of a square picture, and its margins left, below, and on the other two sides.
SIDE, LEFT, BELOW, EDGE = 210, 26, 34, 8


class _Plot:
    """A square plot in data coordinates, as a list of SVG elements."""

    def __init__(self, low: float, high: float, label: str) -> None:
        self.low, self.high, self.label = low, high, label
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (self.high - self.low) * (SIDE - LEFT - EDGE)

    def y(self, value: float) -> float:
        return SIDE - BELOW - (value - self.low) / (self.high - self.low) * (SIDE - BELOW - EDGE)

    def path(self, x: FloatArray, y: FloatArray, style: str, *, closed: bool = False) -> None:
        points = " ".join(
            f"{self.x(a):.1f},{self.y(min(max(b, self.low), self.high)):.1f}"
            for a, b in zip(x, y, strict=True)
        )
        kind = "polygon" if closed else "polyline"
        self.parts.append(f'<{kind} points="{points}" class="{style}"/>')

    def dot(self, x: float, y: float) -> None:
        if self.low <= x <= self.high and self.low <= y <= self.high:
            self.parts.append(
                f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="1.6" class="dot"/>'
            )

    def circle(self, radius: float) -> None:
        rx = self.x(radius) - self.x(0.0)
        ry = self.y(0.0) - self.y(radius)
        self.parts.append(
            f'<ellipse cx="{self.x(0.0):.1f}" cy="{self.y(0.0):.1f}" rx="{rx:.1f}" '
            f'ry="{ry:.1f}" class="law"/>'
        )

    def svg(self, ticks: Sequence[float], across: str, up: str) -> str:
        bottom, right = SIDE - BELOW, SIDE - EDGE
        marks = [f'<path d="M{LEFT},{EDGE}V{bottom}H{right}" class="axis"/>']
        for tick in ticks:
            text = f"{tick:g}".replace("-", "\N{MINUS SIGN}")
            marks.append(
                f'<text x="{self.x(tick):.1f}" y="{bottom + 13}" text-anchor="middle">{text}</text>'
                f'<text x="{LEFT - 5}" y="{self.y(tick) + 3.5:.1f}" text-anchor="end">{text}</text>'
            )
        middle = (LEFT + right) / 2
        marks.append(f'<text x="{middle}" y="{SIDE - 6}" text-anchor="middle">{across}</text>')
        marks.append(f'<text x="{LEFT + 6}" y="{EDGE + 9}">{up}</text>')
        return (
            f'<svg viewBox="0 0 {SIDE} {SIDE}" width="{SIDE}" height="{SIDE}" role="img" '
            f'aria-label="{self.label}">{"".join(self.parts)}{"".join(marks)}</svg>'
        )


def components(pictures: Pictures, n_rows: int) -> str:
    """Draw quantiles of each component against those of N(0, 1), with a band for chance."""
    levels = pictures.levels
    law = ndtri(levels)
    edge = max(3.0, float(np.ceil(np.abs(law).max())))
    plot = _Plot(-edge, edge, "Quantiles of each component against those of the target")
    # The standard deviation of a quantile of n rows, twice.
    density = np.exp(-0.5 * law**2) / math.sqrt(2 * math.pi)
    half = 2 * np.sqrt(levels * (1 - levels) / n_rows) / density
    plot.path(
        np.concatenate([law, law[::-1]]),
        np.concatenate([law - half, (law + half)[::-1]]),
        "band",
        closed=True,
    )
    plot.path(np.array([-edge, edge]), np.array([-edge, edge]), "law")
    for column in pictures.quantiles.T:
        plot.path(law, column, "rows")
    return plot.svg(_symmetric(edge), "target", "embedding")


def radii(pictures: Pictures, n_components: int) -> str:
    """Draw quantiles of the norm of rows against those under N(0, I)."""
    law = chi(n_components).ppf(pictures.levels)
    low, high = float(law.min()), float(law.max())
    room = 0.25 * (high - low) + 0.1
    low, high = max(0.0, low - room), high + room
    plot = _Plot(low, high, "Quantiles of the norm of rows against those of the target")
    plot.path(np.array([low, high]), np.array([low, high]), "law")
    plot.path(law, pictures.radii, "rows")
    step = 1.0 if high - low < 5 else 2.0
    ticks = np.arange(np.floor(low / step) + 1, np.floor(high / step) + 1) * step
    return plot.svg([float(tick) for tick in ticks], "target", "embedding")


def pair(pictures: Pictures, names: tuple[int, ...]) -> str:
    """Draw two components of rows, with circles that hold half and 95 % of N(0, I)."""
    i, j = names
    plot = _Plot(-3.5, 3.5, f"Components {i} and {j} of rows")
    for probability in (0.5, 0.95):
        plot.circle(math.sqrt(-2 * math.log(1 - probability)))
    for a, b in pictures.pair:
        plot.dot(float(a), float(b))
    return plot.svg(_symmetric(3.5), f"component {i}", f"component {j}")


def bars(
    information: InformationEstimate,
    training: float,
    training_reachable: float,
    training_cap: float,
) -> str:
    """Draw the information of given and training rows as bars inside what can be reached."""
    width, left, row = 640, 98, 24
    lines = (
        ("given rows", information.value, information.reachable),
        ("training rows", training, training_reachable),
    )
    # Each limit with the rows of the picture that it holds for.
    limits: list[tuple[str, float, tuple[int, ...]]]
    limits = [("capacity", information.capacity, (0, 1))]
    if math.isclose(information.cap, training_cap):
        limits.append(("log of the batch size", information.cap, (0, 1)))
    else:
        limits.append((f"log {information.batch_size} =", information.cap, (0,)))
        limits.append((f"log {round(math.exp(training_cap))} =", training_cap, (1,)))
    top = 1.02 * max(max(value, reachable) for _, value, reachable in lines)
    # A limit far outside would leave no room for the bars.
    limits = sorted(
        (limit for limit in limits if limit[1] <= 1.6 * top), key=lambda limit: limit[1]
    )
    scale = (width - left - 10) / max([top, *(1.02 * value for _, value, _ in limits)])
    parts = []
    for place, (name, value, reachable) in enumerate(lines):
        y = 4 + row * place
        parts.append(
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{y}" width="{reachable * scale:.1f}" height="16" class="room"/>'
            f'<rect x="{left}" y="{y}" width="{max(0.0, value) * scale:.1f}" height="16" '
            'class="fill"/>'
        )
    bottom = 2 * row + 2
    for place, (name, value, rows) in enumerate(limits):
        # Each name has a line of its own, so that two limits close together stay readable.
        x, y = left + value * scale, bottom + 12 * (len(limits) - place)
        parts.append(
            f'<path d="M{x:.1f},{row * rows[0]}V{row * (rows[-1] + 1)}" class="limit"/>'
            f'<text x="{x:.1f}" y="{y}" text-anchor="end">{name} {value:.2f}</text>'
        )
    height = bottom + 12 * len(limits) + 4
    return (
        f'<svg viewBox="0 0 {width} {height}" style="width:100%;max-width:{width}px" role="img" '
        f'aria-label="Information of given and training rows, in nats">{"".join(parts)}</svg>'
    )


def _symmetric(edge: float) -> list[float]:
    """Return ticks inside (-edge, edge): at the corner those of the two axes would meet."""
    reach = math.ceil(edge) - 1
    step = 1 if reach <= 3 else 2
    return [float(tick) for tick in range(-reach // step * step, reach + 1, step) if -reach <= tick]
