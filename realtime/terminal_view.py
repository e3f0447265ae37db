"""The avatar as a stick figure in the terminal, drawn with Braille dots.

A Braille character holds 2 x 4 dots, so a terminal of 80 x 24 shows 160 x 96 of them. A terminal
whose encoding has no Braille gets one character per cell instead.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import sys
from typing import TextIO

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, joint_positions
from ha2g_live.realtime.types import F32

LEFT_M, RIGHT_M, TOP_M, BOTTOM_M = -0.8, 0.8, -0.66, 0.72
"""What the view shows: x to the person's left (right on the screen), y down, spine joint at 0."""

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # alternate screen, no cursor, clear
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_END_OF_LINE = "\x1b[K"

# Braille dots are numbered down the left column, down the right one, then the bottom row.
_DOT_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.int64)
_BRAILLE = 0x2800
_ASCII_BY_DOTS = " .:+*#@@@"
_HEAD_RADIUS_M = 0.13
_NOSE = JOINT_NAMES.index("nose")
_NECK = JOINT_NAMES.index("neck")
_FACE = {JOINT_NAMES.index(n) for n in ("nose", "right_eye", "left_eye", "right_ear", "left_ear")}
_BODY_BONES = [(parent, child) for parent, child in BONES if child not in _FACE]

Dots = npt.NDArray[np.bool_]


def figure(directions: F32, columns: int, rows: int, ascii_only: bool = False) -> list[str]:
    """The front view of a pose as lines of text.

    Args:
        directions: (42, 3) unit vectors, HA2G axes.
        columns: characters a line.
        rows: lines.
        ascii_only: use no character beyond ASCII.

    Returns:
        ``rows`` lines of ``columns`` characters.
    """
    dots = np.zeros((4 * rows, 2 * columns), dtype=np.bool_)
    # A dot is about square: a character is twice as high as wide and holds 2 x 4.
    scale = min(2 * columns / (RIGHT_M - LEFT_M), 4 * rows / (BOTTOM_M - TOP_M))
    shift = np.array([columns, 2 * rows]) - 0.5 * scale * np.array(
        [LEFT_M + RIGHT_M, TOP_M + BOTTOM_M]
    )
    points = joint_positions(directions)[:, :2] * scale + shift
    for parent, child in _BODY_BONES:
        _line(dots, points[parent], points[child])
    up = points[_NOSE] - points[_NECK]
    centre = points[_NECK] + 1.1 * up
    turns = np.linspace(0.0, 2.0 * math.pi, 25)
    outline = centre + _HEAD_RADIUS_M * scale * np.stack((0.8 * np.cos(turns), np.sin(turns)), 1)
    for start, end in itertools.pairwise(outline):
        _line(dots, start, end)
    _line(dots, points[_NECK], centre + _HEAD_RADIUS_M * scale * _unit(points[_NECK] - centre))
    cells = dots.reshape(rows, 4, columns, 2)
    if ascii_only:
        counts = cells.sum(axis=(1, 3))
        return ["".join(_ASCII_BY_DOTS[count] for count in row) for row in counts]
    codes = _BRAILLE + np.einsum("rdcw,dw->rc", cells.astype(np.int64), _DOT_BITS)
    return ["".join(map(chr, row)) for row in codes]


def _line(dots: Dots, start: npt.NDArray[np.floating], end: npt.NDArray[np.floating]) -> None:
    steps = math.ceil(float(np.abs(end - start).max())) + 1
    along = start + np.linspace(0.0, 1.0, steps + 1)[:, None] * (end - start)
    x, y = np.rint(along).astype(np.int64).T
    inside = (x >= 0) & (x < dots.shape[1]) & (y >= 0) & (y < dots.shape[0])
    dots[y[inside], x[inside]] = True


def _unit(vector: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


class TerminalView:
    """Owns the terminal while the figure is shown: ``with TerminalView(sys.stdout) as view``.

    The terminal's own text comes back when the block is left, however that happens.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ascii_only = not _has_braille(stream)

    def __enter__(self) -> TerminalView:
        enable_ansi()
        self._stream.write(_ENTER)
        self._stream.flush()
        return self

    def __exit__(self, *_: object) -> None:
        # The terminal may be gone; then there is nothing to restore.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(_LEAVE)
            self._stream.flush()

    def note(self, text: str) -> None:
        """Show a line of ASCII text while there is no pose yet."""
        self._stream.write(f"{_HOME}{text}{_END_OF_LINE}")
        self._stream.flush()

    def draw(self, directions: F32, status: str) -> None:
        """Show a (42, 3) pose with a line of text below it."""
        size = shutil.get_terminal_size()
        columns, rows = max(size.columns, 2), max(size.lines - 1, 1)
        encoding = self._stream.encoding or "ascii"
        text = status[: columns - 1].encode(encoding, "replace").decode(encoding)
        lines = [*figure(directions, columns - 1, rows, self._ascii_only), text]
        self._stream.write(_HOME + "\n".join(line + _END_OF_LINE for line in lines))
        self._stream.flush()


def enable_ansi() -> None:
    """Let the Windows console obey escape sequences; other terminals do so by themselves."""
    if sys.platform == "win32":
        import ctypes

        kernel32 = ctypes.windll.kernel32
        virtual_terminal = 0x0004
        for number in (-11, -12):  # standard output, standard error
            handle = kernel32.GetStdHandle(number)
            mode = ctypes.c_uint32()
            if kernel32.GetConsoleMode(handle, ctypes.byref(mode)):
                kernel32.SetConsoleMode(handle, mode.value | virtual_terminal)


def _has_braille(stream: TextIO) -> bool:
    try:
        chr(_BRAILLE).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
