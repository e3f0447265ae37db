"""When to emit, and which moment of the stream to show then.

Two things drift: a loop that sleeps "one frame" at a time, and a sound card whose second is not
the computer's. ``Pacer`` keeps to an absolute timetable, and ``StreamClock`` follows the card by
letting stream time run slightly faster or slower, never by a jump.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import Protocol

from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ

HORIZON_S = 0.25
"""Stream time never runs further than this past the sound heard: nothing is predicted there."""
SETTLE_S = 2.0
"""An error of the stream clock is worked off with this time constant."""
MAX_SLOWER, MAX_FASTER = 0.25, 1.0
"""Largest change of the speed of stream time while an error is worked off."""
LAG_COVERED_S = 0.75 / POSE_FPS
"""Lag of a prediction that the frames ahead cover without the motion easing to a stop."""
_LAG_SHARE = 0.05  # of each new lag in the running mean: about 1.3 s
_MAX_LAG_S = 0.5


class Clock(Protocol):
    """The wall clock; tests bring their own."""

    def now_s(self) -> float:
        """Seconds of a clock that never goes back, the one of ``AudioBlock.captured_at_s``."""

    def sleep_until(self, moment_s: float) -> None:
        """Return at ``moment_s`` or a little later; at once when it has passed."""


class SystemClock:
    """The computer's clock.

    ``perf_counter`` is read because ``monotonic`` moves in steps of 16 ms on Windows up to Python
    3.12; elsewhere the two are the same clock. ``time.sleep`` is late by about 0.1 ms on Linux
    and macOS and by about 0.5 ms on Windows from Python 3.11; on 3.10 it needs ``FineTimer``.
    That is little against a frame (7 to 42 ms), so nothing spins.
    """

    def now_s(self) -> float:
        """See ``Clock``."""
        return time.perf_counter()

    def sleep_until(self, moment_s: float) -> None:
        """See ``Clock``."""
        while (left_s := moment_s - time.perf_counter()) > 0.0:
            time.sleep(left_s)


class FineTimer:
    """``with FineTimer():`` asks Windows for a timer of 1 ms; elsewhere it does nothing."""

    def __enter__(self) -> None:
        if sys.platform == "win32":
            import ctypes

            ctypes.windll.winmm.timeBeginPeriod(1)

    def __exit__(self, *_: object) -> None:
        if sys.platform == "win32":
            import ctypes

            ctypes.windll.winmm.timeEndPeriod(1)


@dataclass(frozen=True, slots=True)
class Tick:
    """One turn of the pacer.

    Attributes:
        due_s: moment of the timetable that it stands for.
        missed: moments of the timetable before it that passed without a turn.
    """

    due_s: float
    missed: int


class Pacer:
    """Turns at ``start + k / fps``. After a stall the missed turns are counted, not made up for."""

    def __init__(self, fps: float, clock: Clock) -> None:
        self._fps = fps
        self._clock = clock
        self._start_s = clock.now_s()
        self._next = 0

    def wait(self) -> Tick:
        """Sleep until the next turn."""
        self._clock.sleep_until(self._start_s + self._next / self._fps)
        passed = (self._clock.now_s() - self._start_s) * self._fps
        # Rounding may put the clock a hair before the moment that was slept for.
        newest = max(self._next, math.floor(passed))
        tick = Tick(self._start_s + newest / self._fps, newest - self._next)
        self._next = newest + 1
        return tick


class StreamClock:
    """Stream time at a wall clock moment: the time of the newest sample plus its age.

    Nothing is added to that, unless predictions come so late, through a slow model or a source
    that delivers late, that the frames ahead do not cover it: then the excess is taken off, so
    that the motion stays smooth at the price of a delay.

    Threads: ``now`` is called by the emitter, ``note_lag`` by the one that runs the model.
    """

    def __init__(self) -> None:
        self._wall_s = 0.0
        self._stream_s: float | None = None
        self._mean_lag_s = 0.0

    @property
    def delay_s(self) -> float:
        """What is taken off because predictions come late; 0 when all is well."""
        return max(0.0, self._mean_lag_s - LAG_COVERED_S)

    def note_lag(self, lag_s: float) -> None:
        """Tell how old the sound was that a prediction was made from, when it became ready."""
        self._mean_lag_s += _LAG_SHARE * (min(lag_s, _MAX_LAG_S) - self._mean_lag_s)

    def now(self, wall_s: float, heard_samples: int, captured_at_s: float) -> float:
        """Stream time in seconds at ``wall_s``; it never goes back.

        Args:
            wall_s: the moment asked for.
            heard_samples: samples heard so far.
            captured_at_s: when the last of them was captured.
        """
        heard_s = heard_samples / SAMPLE_RATE_HZ
        measured_s = heard_s + (wall_s - captured_at_s) - self.delay_s
        if self._stream_s is None:
            self._stream_s = max(0.0, min(measured_s, heard_s + HORIZON_S))
        else:
            passed_s = wall_s - self._wall_s
            error_s = measured_s - (self._stream_s + passed_s)
            speed = 1.0 + min(max(error_s / SETTLE_S, -MAX_SLOWER), MAX_FASTER)
            ahead_s = min(self._stream_s + speed * passed_s, heard_s + HORIZON_S)
            self._stream_s = max(self._stream_s, ahead_s)
        self._wall_s = wall_s
        return self._stream_s
