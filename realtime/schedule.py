"""From 15 predicted poses a second to a pose at any moment, for two threads.

``trajectory`` is the curve through the predictions. Here is who holds the newest one, what is
refused, what is counted, and where a stalled model's avatar goes: the motion eases to a stop at the
last predicted pose, and when no newer one comes the arms sink to rest, so that nobody stands there
with hands in the air.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.rest_poses import rest_pose
from ha2g_live.realtime.retarget import to_rotations
from ha2g_live.realtime.rotation_arrays import slerp
from ha2g_live.realtime.skeleton import MEAN_DIRECTION
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.trajectory import (
    Trajectory,
    begin_anew,
    continued,
    evaluate,
    extend,
    start_at,
)
from ha2g_live.realtime.types import F32, PoseChunk

STALL_S = 0.5
"""A model that has predicted nothing for the moment shown for so long has stalled."""
COAST = np.array((0.62, 1.0, 1.2, 1.28))
"""Where a joint is on the frames after the last predicted one, as multiples of its last turn: it
slows down over a quarter of a second. Seen only when the next prediction is late."""
RECOVER_S = 0.9
"""Time in which the motion goes over to that of a model which had stalled, longer than between two
predictions: by then the two have little in common."""
SINK_S = 1.6
"""Time in which a stalled model's avatar goes to rest."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One sampled pose.

    Attributes:
        rotations: (55, 4) float32 local unit quaternions, the receiver's own.
        chunk: newest prediction that shaped it; None before the first.
        starved: no predicted frame was left, the pose is held or sinks to rest.
    """

    rotations: F32
    chunk: PoseChunk | None
    starved: bool


class Course(NamedTuple):
    """All that a schedule remembers, a plain value.

    Attributes:
        trajectory: the curve.
        chunk: the newest prediction.
        last_predicted: its last frame.
        now: the moment shown last, in pose frames.
    """

    trajectory: Trajectory
    chunk: PoseChunk | None
    last_predicted: int
    now: float | None


class PoseSchedule:
    """Takes predictions, gives poses. Memory does not grow.

    Threads: ``merge`` is called by the one that runs the model, ``sample`` by the one that emits.
    One lock guards everything; each holds it for some tens of microseconds.

    Attributes:
        starved: samples for which no predicted frame was left.
        stalls: times the model had stalled and the avatar was sent to rest.
        stale: predictions that came after a newer one and were left out.
        damaged: predictions left out because they held something that is not a direction.
        limited: turns that were held to ``MAX_TURN_RAD``.
    """

    def __init__(self) -> None:
        self.starved = 0
        self.stalls = 0
        self.stale = 0
        self.damaged = 0
        self.limited = 0
        self._lock = threading.Lock()
        self._trajectory = start_at(0, limit(to_rotations(MEAN_DIRECTION)))
        self._chunk: PoseChunk | None = None
        self._last_predicted = 0
        self._sinks = False
        self._now: float | None = None

    def merge(self, chunk: PoseChunk) -> None:
        """Replace the frames from ``chunk.first_frame`` on by a newer prediction."""
        lengths = np.linalg.norm(chunk.directions, axis=-1)
        sound = bool(((lengths > 1e-3) & np.isfinite(lengths)).all())
        poses = limit(to_rotations(chunk.directions)) if sound else None
        with self._lock:
            if self._chunk is not None and chunk.first_frame < self._chunk.first_frame:
                self.stale += 1
                return
            if poses is None:
                self.damaged += 1
                return
            if self._now is None and self._chunk is None:
                # Nothing was shown yet: begin in the first predicted pose.
                self._trajectory = start_at(chunk.first_frame, poses[0])
            late = self._now is not None and self._now > self._last_predicted
            self._last_predicted = chunk.first_frame + len(poses) - 1
            self._extend(chunk.first_frame, np.concatenate((poses, _coasting(poses))), late)
            self._chunk = chunk
            self._sinks = False

    def sample(self, stream_time_s: float) -> Sampled:
        """The pose at a moment of the stream. Time never runs backward: an earlier one is held."""
        with self._lock:
            now = stream_time_s * POSE_FPS
            self._now = now if self._now is None else max(now, self._now)
            starved = self._chunk is None or self._now > self._last_predicted
            self.starved += starved
            stalled = self._chunk is not None and (
                self._now - self._last_predicted > STALL_S * POSE_FPS
            )
            if stalled and not self._sinks:
                self._sink()
            return Sampled(evaluate(self._trajectory, self._now), self._chunk, starved)

    def save(self) -> Course:
        """What it remembers, to go on from elsewhere."""
        with self._lock:
            return Course(self._trajectory, self._chunk, self._last_predicted, self._now)

    def resume(self, course: Course) -> None:
        """Go on from what another one remembered."""
        with self._lock:
            self._trajectory, self._chunk, self._last_predicted, self._now = course
            self._sinks = False

    def _extend(self, first_frame: int, poses: F32, late: bool) -> None:
        now = float(self._trajectory.first) if self._now is None else self._now
        if late:
            self._trajectory, limited = begin_anew(
                self._trajectory, first_frame, poses, now, RECOVER_S
            )
        else:
            self._trajectory, limited = extend(self._trajectory, first_frame, poses, now)
        self.limited += limited

    def _sink(self) -> None:
        """From here on the way to rest takes the place of a prediction."""
        self._sinks = True
        self.stalls += 1
        held = evaluate(self._trajectory, float(self._trajectory.last))
        frames = round(SINK_S * POSE_FPS)
        share = np.linspace(0.0, 1.0, frames + 1)[1:, None]
        # Minimum-jerk course from one rest to the other.
        share = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
        first_frame = int(self._now or 0.0) + 1
        self._extend(first_frame, slerp(held[None], rest_pose("sides")[None], share), True)


def _coasting(poses: F32) -> F32:
    """The frames after the last of (n, 55, 4) predicted poses, if no newer prediction comes."""
    before = poses[-2] if len(poses) > 1 else poses[-1]
    return limit(continued(before, poses[-1], COAST))
