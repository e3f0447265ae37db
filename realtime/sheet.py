"""A whole motion in one picture: numbered figures, the sound, and how fast the wrists move.

The strips below the figures share one time axis, so that hands that move with the speech and rest
in its silences are seen at once. The video uses the same strips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ha2g_live.realtime.canvas import INK, LEFT, PAPER, RIGHT, WHITE, Colour, Window, mix
from ha2g_live.realtime.draw import draw_figure, drawn_positions, fit_window
from ha2g_live.realtime.offline import Motion
from ha2g_live.realtime.skeleton import JOINT_NAMES
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

TRAIL_S = 0.5
"""How far back a wrist's trail reaches."""
VIEWS = ("front", "three_quarter")
_SHEET_WIDTH = 1920
_MARGIN = 24
_COLUMNS = 6
_GAP = 8
_SOFT = mix(INK, PAPER, 0.45)
_GRID = mix(INK, PAPER, 0.88)
_STRIP_MARGIN = 64
_WRISTS = {"left": (JOINT_NAMES.index("left_wrist"), LEFT),
           "right": (JOINT_NAMES.index("right_wrist"), RIGHT)}  # fmt: skip

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: int) -> Font:
    """Pillow's own font, so that a picture looks the same everywhere."""
    return ImageFont.load_default(size)


def wrist_speeds(motion: Motion) -> dict[str, F32]:
    """Speed of each wrist relative to the spine joint in m/s of the drawn figure, (frames,)."""
    positions = drawn_positions(motion.directions)
    speeds = {}
    for side, (wrist, _) in _WRISTS.items():
        path = positions[:, wrist]
        step = np.gradient(path, axis=0) if len(path) > 1 else np.zeros_like(path)
        speeds[side] = (np.linalg.norm(step, axis=-1) * motion.fps).astype(np.float32)
    return speeds


def headline(motion: Motion, title: str) -> str:
    """Clip, model, style, seed and length, as far as they are known."""
    parts = [title, motion.model]
    if motion.style:
        parts.append(f"style {motion.style}")
    if motion.seed is not None:
        parts.append(f"seed {motion.seed}")
    parts.append(f"{motion.duration_s:.1f} s")
    return "  ·  ".join(part for part in parts if part)


class Strips:
    """The waveform and the wrist speeds over time. Painted at twice the size, then scaled down.

    Args:
        motion: what they show.
        width: pixels.
        wave_height: pixels of the waveform.
        speed_height: pixels of the speed chart.
        marks_s: moments to mark with a line.
    """

    def __init__(
        self,
        motion: Motion,
        width: int,
        wave_height: int,
        speed_height: int,
        marks_s: Sequence[float] = (),
    ) -> None:
        self.duration_s = max(motion.duration_s, len(motion.samples) / SAMPLE_RATE_HZ, 1e-3)
        self._left, self._right = 2 * _STRIP_MARGIN, 2 * (width - _MARGIN)
        speed_top = 2 * (wave_height + 6)
        self._bottom = speed_top + 2 * speed_height
        image = Image.new("RGB", (2 * width, self._bottom + 44), WHITE)
        self._draw = ImageDraw.Draw(image)
        self._time_axis()
        for mark_s in marks_s:
            self._line_at(mark_s, mix(INK, WHITE, 0.62), 3)
        self._waveform(motion.samples, 2 * wave_height)
        self._speeds(motion, speed_top, 2 * speed_height)
        self.image = image.reduce(2)
        self.height = self._bottom // 2

    def x_of(self, time_s: float) -> float:
        """Pixel column of a moment."""
        return self._x(time_s) / 2

    def _x(self, time_s: float) -> float:
        return self._left + (self._right - self._left) * time_s / self.duration_s

    def _line_at(self, time_s: float, colour: Colour, width: int) -> None:
        x = self._x(time_s)
        self._draw.line((x, 0, x, self._bottom), colour, width)

    def _time_axis(self) -> None:
        steps_s = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
        step_s = next((t for t in steps_s if self.duration_s / t <= 14), 300)
        for i in range(math.floor(self.duration_s / step_s) + 1):
            self._line_at(i * step_s, _GRID, 2)
            at = (self._x(i * step_s), self._bottom + 8)
            self._draw.text(at, f"{i * step_s:g} s", _SOFT, font(28), "ma")

    def _waveform(self, samples: F32, height: int) -> None:
        middle = height / 2
        self._draw.line((self._left, middle, self._right, middle), mix(INK, WHITE, 0.3), 2)
        self._draw.text((self._left - 16, middle), "sound", _SOFT, font(28), "rm")
        if not len(samples):
            return
        reach = 0.95 * middle / max(float(np.abs(samples).max()), 1e-3)
        columns = self._right - self._left
        rate = self.duration_s * SAMPLE_RATE_HZ / columns
        for column in range(columns):
            run = samples[
                int(column * rate) : max(int((column + 1) * rate), int(column * rate) + 1)
            ]
            if len(run):
                x = self._left + column
                ends = (middle - reach * float(run.max()), middle - reach * float(run.min()))
                self._draw.line((x, ends[0], x, ends[1]), mix(INK, WHITE, 0.3))

    def _speeds(self, motion: Motion, top: int, height: int) -> None:
        speeds = wrist_speeds(motion)
        limit = max(1.0, math.ceil(2 * max(float(s.max()) for s in speeds.values())) / 2)
        grid = 0.5 if limit <= 2 else math.ceil(limit / 5)
        for i in range(math.floor(limit / grid) + 1):
            y = top + height * (1 - i * grid / limit)
            self._draw.line((self._left, y, self._right, y), _GRID, 2)
            anchor = "rm" if i else "rs"
            self._draw.text((self._left - 16, y), f"{i * grid:g}", _SOFT, font(28), anchor)
        for side, (_, colour) in _WRISTS.items():
            line = [
                (self._x(i / motion.fps), top + height * (1 - float(speed) / limit))
                for i, speed in enumerate(speeds[side])
            ]
            if len(line) > 1:
                self._draw.line(line, colour, 5, joint="curve")
        x = float(self._right)
        for text, colour in (("right", RIGHT), ("left", LEFT), ("wrist speed, m/s:", _SOFT)):
            self._draw.text((x, top + 4), text, colour, font(28), "ra")
            x -= self._draw.textlength(text, font(28)) + 14


class Stage:
    """Paints the frames of one motion, all views at one scale and with one camera.

    Args:
        motion: what to show.
        size: width and height of a picture in pixels.
        supersample: see ``draw_figure``.
    """

    def __init__(self, motion: Motion, size: tuple[int, int], supersample: int) -> None:
        self._motion, self._size, self._supersample = motion, size, supersample
        windows = {view: fit_window(motion.directions, view) for view in VIEWS}
        top = min(window.top_m for window in windows.values())
        bottom = max(window.bottom_m for window in windows.values())
        self._windows = {v: Window(w.left_m, w.right_m, top, bottom) for v, w in windows.items()}

    def picture(self, frame: int) -> Image.Image:
        """All views of a frame next to each other, its time in the corner."""
        width, height = self._size
        widths_m = {view: window.span_m[0] for view, window in self._windows.items()}
        image = Image.new("RGB", self._size, PAPER)
        px_per_m = min(width / sum(widths_m.values()), height / (self._windows[VIEWS[0]].span_m[1]))
        spare = (width - px_per_m * sum(widths_m.values())) / len(VIEWS)
        past = self._motion.directions[max(0, frame - round(TRAIL_S * self._motion.fps)) : frame]
        left = 0.0
        for view, window in self._windows.items():
            share = px_per_m * widths_m[view] + spare
            figure = draw_figure(
                self._motion.directions[frame],
                (max(1, round(left + share) - round(left)), height),
                view=view,
                window=window,
                past=past,
                supersample=self._supersample,
            )
            image.paste(figure, (round(left), 0))
            left += share
        label = f"{frame / self._motion.fps:.2f} s"
        ImageDraw.Draw(image).text((8, 6), label, INK, font(17))
        return image


def evenly_spaced(motion: Motion, count: int) -> list[float]:
    """``count`` times in seconds over the motion, at the middle of equal parts."""
    return [(i + 0.5) * motion.duration_s / count for i in range(count)]


def contact_sheet(
    motion: Motion,
    times_s: Sequence[float],
    title: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Image.Image:
    """Figures at some times, front and three-quarter view, with the strips below.

    Args:
        motion: what to show.
        times_s: moments, each at least 0 and not after the end.
        title: name of the clip.
        progress: is told figures done and figures in all.
    """
    columns = min(_COLUMNS, len(times_s))
    rows = -(-len(times_s) // columns)
    frames = [min(round(t * motion.fps), len(motion.directions) - 1) for t in times_s]
    cell = (_SHEET_WIDTH - 2 * _MARGIN + _GAP) // columns - _GAP
    size = (cell, min(round(0.64 * cell), 640))
    stage = Stage(motion, size, supersample=3)
    strips = Strips(motion, _SHEET_WIDTH, 100, 140, [frame / motion.fps for frame in frames])
    strips_top = 64 + rows * (size[1] + _GAP) + 12
    sheet = Image.new("RGB", (_SHEET_WIDTH, strips_top + strips.image.height + 8), WHITE)
    ImageDraw.Draw(sheet).text((_MARGIN, 20), headline(motion, title), INK, font(24))
    for number, frame in enumerate(frames):
        row, column = divmod(number, columns)
        at = (_MARGIN + column * (cell + _GAP), 64 + row * (size[1] + _GAP))
        sheet.paste(stage.picture(frame), at)
        if progress is not None:
            progress(number + 1, len(frames))
    sheet.paste(strips.image, (0, strips_top))
    return sheet
