"""Counters and timings of a run, in bounded memory.

What each figure means:

- latency: per model step, from the capture of the last sample in its newest mel column to the
  moment after the first output frame that the step shaped was handed to the last target.
- step: time inside the model, per step.
- lateness: per output frame, from its moment on the timetable to the end of its hand-over.
- late frames: moments of the timetable that passed without a frame, plus frames whose lateness
  was a whole frame time or more.
- starved frames: shown after the last predicted pose was reached; the motion had come to rest.
- skipped steps: model steps given up because the model had fallen too far behind.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ha2g_live.realtime import limits
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.types import F32

_SMALLEST_S = 1e-6
_LARGEST_S = 1e3
_RATIO = 1.01
_BUCKETS = math.ceil(math.log(_LARGEST_S / _SMALLEST_S) / math.log(_RATIO)) + 1
MINUTES_KEPT = 24 * 60
_UNIT_TOLERANCE = 1e-3
_MIB = 1024.0 * 1024.0


class Timings:
    """Durations in a histogram of buckets 1 % wide: every value counts, memory does not grow."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, dtype=np.int64)
        self.count = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; below 1 us it counts as 1 us."""
        ratio = min(max(seconds, _SMALLEST_S), _LARGEST_S) / _SMALLEST_S
        self._counts[round(math.log(ratio) / math.log(_RATIO))] += 1
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def percentile_s(self, percent: float) -> float:
        """Nearest-rank percentile, right to 0.5 %; 0 when nothing was counted."""
        total = int(self._counts.sum())
        if total == 0:
            return 0.0
        rank = max(1, math.ceil(percent / 100.0 * total))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(min(_SMALLEST_S * _RATIO**bucket, self.max_s))

    def as_dict(self) -> dict[str, float]:
        """Percentiles in milliseconds."""
        values = {f"p{p}_ms": round(1e3 * self.percentile_s(p), 3) for p in (50, 95, 99)}
        return {"count": self.count, **values, "max_ms": round(1e3 * self.max_s, 3)}


class Stats:
    """Everything counted during one run.

    Threads: each counter is written by one thread only (the emitter, or the one that runs the
    model) and read by any.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.missed_frames = 0
        self.late_frames = 0
        self.starved_frames = 0
        self.steps = 0
        self.looks = 0
        self.skipped_steps = 0
        self.lost_samples = 0
        self.latency = Timings()
        self.step = Timings()
        self.lateness = Timings()
        self.fastest_rad_s = 0.0
        self.bad_directions = 0
        self.outside_frames = 0
        self._outside = np.zeros(len(limits.NAMES), dtype=np.int64)
        self.minutes: deque[dict[str, float]] = deque(maxlen=MINUTES_KEPT)
        self._minute = Timings()
        self._minute_counts = (0, 0, 0, 0)
        self._last_directions: F32 | None = None
        self._process = psutil.Process()
        self.begin()

    def begin(self) -> None:
        """The warm-up is over: time and memory are counted from here."""
        self._started_s = time.perf_counter()
        self._started_cpu_s = self._cpu_s()
        self._minute_end_s = self._started_s + 60.0
        self.rss_start_bytes = self.rss_bytes = self.rss_peak_bytes = self._rss()

    # --- written by the thread that runs the model

    def count_step(self, infer_s: float) -> None:
        """One model step was run."""
        self.steps += 1
        self.step.add(infer_s)

    # --- written by the emitter

    def count_frame(self, directions: F32, frame_s: float, starved: bool) -> None:
        """One output frame was made.

        Args:
            directions: (42, 3) what it shows.
            frame_s: stream time since the frame before.
            starved: no predicted pose was left for it.
        """
        self.frames += 1
        self.starved_frames += starved
        lengths = np.sqrt(np.einsum("ij,ij->i", directions, directions))
        # Written so that NaN counts as bad.
        self.bad_directions += int((~(np.abs(lengths - 1.0) <= _UNIT_TOLERANCE)).sum())
        beyond = limits.outside(directions)
        if beyond.any():
            self.outside_frames += 1
            self._outside += beyond
        if self._last_directions is not None and frame_s > 0.0:
            # Chord to angle; more exact than the arc cosine for small turns.
            chord = float(np.sqrt(((directions - self._last_directions) ** 2).sum(axis=1).max()))
            turn_rad = 2.0 * math.asin(min(1.0, 0.5 * chord)) if math.isfinite(chord) else 0.0
            self.fastest_rad_s = max(self.fastest_rad_s, turn_rad / frame_s)
        self._last_directions = directions

    def count_pace(self, frame_s: float, lateness_s: float, missed: int) -> None:
        """A frame was handed over to all targets.

        Args:
            frame_s: time from one frame to the next on the timetable.
            lateness_s: end of the hand-over after its moment on the timetable.
            missed: moments before it that passed without a frame.
        """
        self.missed_frames += missed
        self.late_frames += missed + (lateness_s >= frame_s)
        self.lateness.add(lateness_s)

    def count_latency(self, latency_s: float) -> None:
        """The first frame that a step shaped was handed over."""
        self.latency.add(latency_s)
        self._minute.add(latency_s)

    # --- read by the owner, about once a second

    def sample_memory(self) -> None:
        """Note the memory in use and close a minute's row when it is over."""
        self.rss_bytes = self._rss()
        self.rss_peak_bytes = max(self.rss_peak_bytes, self.rss_bytes)
        if time.perf_counter() >= self._minute_end_s:
            self.minutes.append(self._minute_row())
            self._minute_counts, self._minute = self._counts(), Timings()
            self._minute_end_s += 60.0

    @property
    def elapsed_s(self) -> float:
        """Time since the counters were made."""
        return time.perf_counter() - self._started_s

    def _counts(self) -> tuple[int, int, int, int]:
        return self.frames, self.late_frames, self.starved_frames, self.skipped_steps

    def _minute_row(self) -> dict[str, float]:
        """The minute under way: what was counted since the row before."""
        since = [now - then for now, then in zip(self._counts(), self._minute_counts, strict=True)]
        return {
            "end_s": round(self.elapsed_s, 1),
            "frames": since[0],
            "late_frames": since[1],
            "starved_frames": since[2],
            "skipped_steps": since[3],
            "latency_p95_ms": round(1e3 * self._minute.percentile_s(95), 3),
            "rss_mib": round(self.rss_bytes / _MIB, 2),
        }

    def as_dict(self) -> dict[str, Any]:
        """The summary written by ``--stats``."""
        self.sample_memory()
        return {
            "elapsed_s": round(self.elapsed_s, 3),
            "frames": self.frames,
            "late_frames": self.late_frames,
            "missed_frames": self.missed_frames,
            "starved_frames": self.starved_frames,
            "core_share": round((self._cpu_s() - self._started_cpu_s) / self.elapsed_s, 4),
            "steps": self.steps,
            "looks": self.looks,
            "skipped_steps": self.skipped_steps,
            "lost_samples": self.lost_samples,
            "latency": self.latency.as_dict(),
            "step": self.step.as_dict(),
            "lateness": self.lateness.as_dict(),
            "motion": {
                "fastest_bone_rad_s": round(self.fastest_rad_s, 3),
                "bad_directions": self.bad_directions,
                "frames_outside_human_limits": self.outside_frames,
                "joints_outside": {
                    name: int(frames)
                    for name, frames in zip(limits.NAMES, self._outside, strict=True)
                    if frames
                },
            },
            "memory": {
                "rss_start_mib": round(self.rss_start_bytes / _MIB, 2),
                "rss_end_mib": round(self.rss_bytes / _MIB, 2),
                "rss_peak_mib": round(self.rss_peak_bytes / _MIB, 2),
            },
            "minutes": [*self.minutes, self._minute_row()],
        }

    def _cpu_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _rss(self) -> int:
        return int(self._process.memory_info().rss)


def machine() -> dict[str, Any]:
    """What the run took place on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_mib": round(psutil.virtual_memory().total / _MIB),
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            name: _version(name) for name in ("ha2g-live", "numpy", "numba", "onnxruntime")
        },
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def check_writable(path: Path, option: str = "--stats") -> None:
    """Fail before a run, not after it.

    Raises:
        ConfigError: what ``option`` asks for cannot be written there.
    """
    if path.is_dir():
        raise ConfigError(f"cannot write {path} (it is a folder): choose another file for {option}")
    if not path.parent.is_dir():
        raise ConfigError(
            f"cannot write {path} (there is no folder {path.parent}): create it first"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"cannot write {path} (not allowed): choose another file for {option}")


def write_summary(path: Path, summary: dict[str, Any], option: str = "--stats") -> None:
    """Write a summary as JSON.

    Raises:
        ConfigError: the file that ``option`` named cannot be written.
    """
    try:
        path.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write {path} ({error.strerror}): choose another file for {option}"
        ) from error
