"""The status line: what a person wants to know while the avatar moves.

On a terminal one line is rewritten in place, cut to the terminal's width. Elsewhere (a log file, a
pipe) a plain line is written every few seconds.
"""

from __future__ import annotations

import math
import shutil
import time
from typing import TextIO

from ha2g_live.realtime.pipeline import Pipeline
from ha2g_live.realtime.types import Source

REFRESH_S = 0.2
LOG_EVERY_S = 5.0

_METER_CELLS = 10
_METER_FLOOR_DB = -60.0
_CLEAR_LINE = "\r\x1b[2K"


def meter(level: float, cells: int = _METER_CELLS, blocks: str = "█░") -> str:
    """A level of 0..1 as a bar over 60 dB."""
    level_db = 20.0 * math.log10(max(level, 1e-6))
    share = min(max(1.0 - level_db / _METER_FLOOR_DB, 0.0), 1.0)
    full = round(share * cells)
    return blocks[0] * full + blocks[1] * (cells - full)


def status_text(pipeline: Pipeline, source: Source | None, fps: float, blocks: str = "█░") -> str:
    """One line of text: level, model, frame rate, latency, losses, targets.

    Args:
        pipeline: what runs.
        source: where the sound comes from; None in a fast run.
        fps: output frames a second, measured.
        blocks: the characters of a full and an empty cell of the meter.
    """
    stats = pipeline.stats
    parts = []
    if source is not None:
        state = str(getattr(source, "state", ""))  # the microphone says here if it is lost
        parts.append(state or f"in {meter(pipeline.level, blocks=blocks)}")
    parts.append(f"model {1e3 * stats.step.percentile_s(50):.1f} ms")
    parts.append(f"{fps:.0f} fps")
    if stats.latency.count:
        parts.append(f"latency {1e3 * stats.latency.percentile_s(50):.0f} ms")
    losses = {
        "late": stats.late_frames,
        "skipped": stats.skipped_steps,
        "starved": stats.starved_frames,
        "xruns": source.xruns if source is not None else 0,
    }
    parts.extend(f"{name} {count}" for name, count in losses.items() if count)
    for client in pipeline.clients:
        counts = client.stats
        text = f"{client.name}: {counts.detail or counts.sent}"
        if counts.dropped and not counts.detail:
            text += f" (-{counts.dropped})"
        parts.append(text)
    return "  ".join(parts)


class FrameRate:
    """Output frames a second, over the last whole second, or the figure would dance."""

    def __init__(self) -> None:
        self._counted_s = time.perf_counter()
        self._counted_frames = 0
        self._fps = 0.0

    def of(self, frames: int) -> float:
        """The rate, given the frames so far."""
        now_s = time.perf_counter()
        passed_s = now_s - self._counted_s
        if self._counted_frames == 0 or passed_s >= 1.0:
            if self._counted_frames:
                self._fps = (frames - self._counted_frames) / passed_s
            self._counted_s, self._counted_frames = now_s, frames
        return self._fps


class StatusLine:
    """Writes the status, as often as it makes sense.

    Args:
        pipeline: what runs.
        source: where the sound comes from; None in a fast run.
        stream: where to write.
    """

    def __init__(self, pipeline: Pipeline, source: Source | None, stream: TextIO) -> None:
        self._pipeline = pipeline
        self.source = source
        self._stream = stream
        self._in_place = stream.isatty()
        self._blocks = "█░" if _can_write(stream, "█░") else "#."
        self._shown_s = time.perf_counter()
        self._rate = FrameRate()
        self._dirty = False

    def update(self) -> None:
        """Write the line if it is time to."""
        now_s = time.perf_counter()
        if now_s - self._shown_s < (REFRESH_S if self._in_place else LOG_EVERY_S):
            return
        self._shown_s = now_s
        text = self.text()
        if self._in_place:
            width = shutil.get_terminal_size().columns
            self._write(_CLEAR_LINE + text[: width - 1])
            self._dirty = True
        else:
            self._write(text + "\n")

    def note(self, text: str) -> None:
        """On a terminal, a line that the status takes the place of."""
        if self._in_place:
            self._write(_CLEAR_LINE + text)
            self._dirty = True

    def text(self) -> str:
        """The line as it is now."""
        fps = self._rate.of(self._pipeline.stats.frames)
        return status_text(self._pipeline, self.source, fps, self._blocks)

    def clear(self) -> None:
        """Leave the terminal's line empty for whatever comes next."""
        if self._dirty:
            self._write(_CLEAR_LINE)
            self._dirty = False

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "ascii"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
