"""From 15 predicted poses a second to a pose at any moment, for two threads.

``trajectory`` is the curve through the predictions. Here is who holds the newest one, what is
refused, and what is counted.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from ha2g_live.realtime.skeleton import MEAN_DIRECTION, normalise
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.trajectory import evaluate, extend, start_at
from ha2g_live.realtime.types import F32, PoseChunk


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sampled pose.

    Attributes:
        directions: (42, 3) float32 unit vectors, the receiver's own.
        chunk: newest prediction that shaped it; None before the first.
        starved: no predicted frame was left, the pose is held.
    """

    directions: F32
    chunk: PoseChunk | None
    starved: bool


class PoseSchedule:
    """Takes predictions, gives poses. Memory does not grow.

    Threads: ``merge`` is called by the one that runs the model, ``sample`` by the one that emits.
    One lock guards everything; each holds it for some tens of microseconds.

    Attributes:
        starved: samples for which no predicted frame was left.
        stale: predictions that came after a newer one and were left out.
        damaged: predictions left out because they held something that is not a direction.
        limited: vectors that were held to ``MAX_TURN_RAD``.
    """

    def __init__(self) -> None:
        self.starved = 0
        self.stale = 0
        self.damaged = 0
        self.limited = 0
        self._lock = threading.Lock()
        self._trajectory = start_at(0, normalise(MEAN_DIRECTION))
        self._chunk: PoseChunk | None = None
        self._now: float | None = None

    def merge(self, chunk: PoseChunk) -> None:
        """Replace the frames from ``chunk.first_frame`` on by a newer prediction."""
        with self._lock:
            if self._chunk is not None and chunk.first_frame < self._chunk.first_frame:
                self.stale += 1
                return
            lengths = np.linalg.norm(chunk.directions, axis=-1)
            if not ((lengths > 1e-3) & np.isfinite(lengths)).all():
                self.damaged += 1
                return
            if self._now is None and self._chunk is None:
                # Nothing was shown yet: begin in the first predicted pose.
                self._trajectory = start_at(chunk.first_frame, normalise(chunk.directions[0]))
            now = float(self._trajectory.first) if self._now is None else self._now
            self._trajectory, limited = extend(
                self._trajectory, chunk.first_frame, chunk.directions, now
            )
            self.limited += limited
            self._chunk = chunk

    def sample(self, stream_time_s: float) -> Sampled:
        """The pose at a moment of the stream. Time never runs backward: an earlier one is held."""
        with self._lock:
            now = stream_time_s * POSE_FPS
            self._now = now if self._now is None else max(now, self._now)
            directions = evaluate(self._trajectory, self._now).astype(np.float32)
            starved = self._chunk is None or self._now > self._trajectory.last
            self.starved += starved
            return Sampled(directions, self._chunk, starved)
