"""Convex solids painted from far to near: what the figure is drawn with.

A solid is the skin over some balls in the world. It is projected with a slight perspective, gets
an outline, and fades a little into the paper the farther away it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ha2g_live.realtime.types import F32

Colour = tuple[int, int, int]
Part = tuple[npt.ArrayLike, Sequence[float]]
"""Balls of one convex part: centres (n, 3) in metres, HA2G axes, and n radii in metres."""
Polygon = tuple[list[tuple[float, float]], Colour]

PAPER: Colour = (244, 246, 249)
INK: Colour = (38, 48, 60)
LEFT: Colour = (230, 120, 36)
RIGHT: Colour = (38, 112, 178)
"""Orange and blue stay apart with every common colour-vision deficiency."""
WHITE: Colour = (255, 255, 255)

YAW_RAD = {"front": 0.0, "three_quarter": math.radians(55.0), "side": math.radians(90.0)}
"""How far the viewer has walked round to the person's left."""

_CAMERA_M = 3.0
_TURNS = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """``colour`` with ``share`` (0..1) of ``other``."""
    r, g, b = (round(a + (o - a) * share) for a, o in zip(colour, other, strict=True))
    return r, g, b


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the world that a picture shows, in view axes (right, down; metres)."""

    left_m: float = -0.4
    right_m: float = 0.4
    top_m: float = -0.74
    bottom_m: float = 0.31

    @property
    def span_m(self) -> tuple[float, float]:
        """Width and height."""
        return self.right_m - self.left_m, self.bottom_m - self.top_m

    def around(self, points: F32, view: str, margin_m: float = 0.06) -> Window:
        """This window, grown where some of the world points (..., 3) would leave it."""
        seen = view_axes(points, view).reshape(-1, 3)
        flat = seen[:, :2] * _nearness(seen[:, 2:])
        low, high = flat.min(axis=0) - margin_m, flat.max(axis=0) + margin_m
        return Window(
            min(self.left_m, float(low[0])),
            max(self.right_m, float(high[0])),
            min(self.top_m, float(low[1])),
            max(self.bottom_m, float(high[1])),
        )


def _nearness(depth_m: F32) -> F32:
    """How much larger than at the spine's depth something appears; bounded at the lens."""
    larger: F32 = _CAMERA_M / np.maximum(_CAMERA_M + depth_m, 1.0)
    return larger


def view_axes(points: F32, view: str) -> F32:
    """World points (HA2G axes) to view axes: right, down, away from the viewer."""
    cos, sin = math.cos(YAW_RAD[view]), math.sin(YAW_RAD[view])
    turned: F32 = points @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], dtype=np.float32)
    return turned


def _hull(points: F32) -> list[tuple[float, float]]:
    """Convex outline of (n, 2) points, n >= 3 (Andrew's monotone chain)."""
    ordered = sorted(map(tuple, points.tolist()))
    outline: list[tuple[float, float]] = []
    for run in (ordered, ordered[::-1]):
        start = len(outline)
        for x, y in run:
            while len(outline) >= start + 2:
                (ax, ay), (bx, by) = outline[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                outline.pop()
            outline.append((x, y))
        outline.pop()
    return outline


class Canvas:
    """Collects solids with their depth, then paints them from far to near.

    Args:
        size: width and height in pixels.
        window: what part of the world to show; it is fitted and centred.
        view: a name of ``YAW_RAD``.
        supersample: paint this much larger and scale down, so that edges are smooth.
    """

    def __init__(self, size: tuple[int, int], window: Window, view: str, supersample: int) -> None:
        self.view = view
        self._supersample = supersample
        self._size = (size[0] * supersample, size[1] * supersample)
        across, down = window.span_m
        self._scale = min(self._size[0] / across, self._size[1] / down)
        middle = np.array([window.left_m + across / 2, window.top_m + down / 2])
        self._offset = (np.array(self._size) / 2 - self._scale * middle).astype(np.float32)
        self._line_px = max(0.004 * self._scale, 0.75 * supersample)
        self._solids: list[tuple[float, list[Polygon]]] = []

    def project(self, points: npt.ArrayLike) -> tuple[F32, F32, float]:
        """World points to pixels (n, 2), pixels per metre (n,), and their mean depth in metres."""
        seen = view_axes(np.asarray(points, dtype=np.float32).reshape(-1, 3), self.view)
        px_per_m = self._scale * _nearness(seen[:, 2])
        return seen[:, :2] * px_per_m[:, None] + self._offset, px_per_m, float(seen[:, 2].mean())

    def solid(
        self, parts: Sequence[Part], colour: Colour, *, nearer_m: float = 0.0, edge: float = 0.6
    ) -> None:
        """Add convex parts of one colour with one outline around all of them.

        Args:
            parts: the balls that each part is the skin of.
            colour: fill before the depth cue.
            nearer_m: sort it this much nearer than the mean of its balls.
            edge: darkness of the outline, 0 for none.
        """
        balls = [(*self.project(points), np.asarray(radii)) for points, radii in parts]
        depth = sum(ball[2] for ball in balls) / len(balls)
        fill = _shade(colour, depth)
        layers = [(self._line_px, mix(fill, INK, edge))] if edge else []
        layers.append((0.0, fill))
        polygons = [
            (_hull((at[:, None] + _CIRCLE * (radii * near + grow)[:, None, None]).reshape(-1, 2)),
             paint)
            for grow, paint in layers
            for at, near, _, radii in balls
        ]  # fmt: skip
        self._solids.append((depth - nearer_m, polygons))

    def limb(
        self, points: Sequence[F32], radii_m: Sequence[float], colour: Colour, nearer_m: float
    ) -> None:
        """Add balls along a line of points, joined by tapering tubes."""
        parts: list[Part] = [
            (np.stack(points[i : i + 2]), radii_m[i : i + 2]) for i in range(len(points) - 1)
        ]
        self.solid(parts, colour, nearer_m=nearer_m)

    def paint(self) -> Image.Image:
        """The picture with everything on it."""
        image = Image.new("RGB", self._size, PAPER)
        draw = ImageDraw.Draw(image)
        for _, polygons in sorted(self._solids, key=lambda solid: -solid[0]):
            for outline, colour in polygons:
                draw.polygon(outline, colour)
        return image.reduce(self._supersample)


def _shade(colour: Colour, depth_m: float) -> Colour:
    """Depth cue: what is far fades into the paper, what is near catches a little light."""
    if depth_m > 0:
        return mix(colour, PAPER, min(depth_m / 0.4, 1.0) * 0.45)
    return mix(colour, WHITE, min(-depth_m / 0.6, 1.0) * 0.2)
