"""From 15 predicted poses a second to a smooth pose at any moment.

The predicted frames are knots. Between two knots runs a quintic curve; at each knot it takes the
velocity and the acceleration of the parabola through the knot and its two neighbours, and is made
a unit vector at the end. It passes every knot exactly and its acceleration has no step (a smoother
Catmull-Rom spline).

A new prediction replaces knots that are already in use. What was shown until then must not jump:
each bone's difference between the old and the new curve at that moment is kept as a rotation, with
its speed and acceleration, and led to zero by a quintic over ``BLEND_S``: inertialisation, after
D. Bollo, "Inertialization: High-Performance Animation Transitions in Gears of War", GDC 2018.
Position and velocity go on exactly, acceleration to first order of the difference. When the
predictions agree the rotation is zero and the curve is exactly the predicted one.

The last knot has zero velocity and acceleration. Normally it is never reached: the next
prediction comes first. When the model stalls the motion therefore eases to a stop there and holds.

Time here is in pose frames as a float: stream seconds times ``POSE_FPS``.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from ha2g_live.realtime.skeleton import BONE_COUNT, MEAN_DIRECTION, normalise
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32, PoseChunk

F64 = npt.NDArray[np.float64]

BLEND_S = 0.16
"""Time over which a difference of predictions fades out."""
MAX_TURN_RAD = 1.4
"""Furthest turn of a bone from one pose frame to the next: 21 rad/s, more than an arm can do.

It keeps neighbouring knots on one side, where a curve made a unit vector is well behaved.
"""
KNOTS = 16
"""Knots kept; a curve needs one behind and two ahead of the moment it is asked for."""

_BLEND_FRAMES = BLEND_S * POSE_FPS
_STEP_FRAMES = 0.01  # for velocities and accelerations by central differences


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The curve of every bone, a plain value.

    Attributes:
        knots: (KNOTS, 42, 3) float64 unit vectors, frame ``f`` in row ``f % KNOTS``.
        first: oldest frame held.
        last: newest frame held.
        turn: (3, 42, 3) rotation vector that is laid over the curve, its velocity and its
            acceleration, as they were at ``turn_at``.
        turn_at: moment at which ``turn`` began to fade.
    """

    knots: F64
    first: int
    last: int
    turn: F64
    turn_at: float


def start_at(frame: int, directions: F32) -> Trajectory:
    """A trajectory that rests in one (42, 3) pose, known from ``frame`` on."""
    return Trajectory(
        knots=np.broadcast_to(directions.astype(np.float64), (KNOTS, BONE_COUNT, 3)).copy(),
        first=frame,
        last=frame,
        turn=np.zeros((3, BONE_COUNT, 3)),
        turn_at=float(frame),
    )


def evaluate(trajectory: Trajectory, now: float) -> F64:
    """(42, 3) unit vectors at ``now``; before the first and after the last frame the ends hold."""
    out = np.empty((BONE_COUNT, 3))
    clamped = min(max(now, trajectory.first), trajectory.last)
    _curve(trajectory.knots, trajectory.first, trajectory.last, clamped, out)
    fade = (now - trajectory.turn_at) / _BLEND_FRAMES
    if fade < 1.0:
        _lay_turn_over(trajectory.turn, max(fade, 0.0), out)
    return out


def extend(
    trajectory: Trajectory, first_frame: int, directions: F32, now: float
) -> tuple[Trajectory, int]:
    """Replace all knots from ``first_frame`` on; what is shown at ``now`` does not step.

    Args:
        trajectory: the curve so far.
        first_frame: frame of ``directions[0]``; frames missing before it are held.
        directions: (frames, 42, 3) prediction, finite, no zero vector.
        now: the moment shown last.

    Returns:
        The new curve, and how many vectors had to be held to ``MAX_TURN_RAD``.
    """
    last = first_frame + len(directions) - 1
    first = max(trajectory.first, last - KNOTS + 1)
    knots = trajectory.knots.copy()
    for frame in range(max(trajectory.last + 1, first), first_frame):
        knots[frame % KNOTS] = trajectory.knots[trajectory.last % KNOTS]
    limited = 0
    for frame, pose in enumerate(directions, start=first_frame):
        limited += _write_knot(knots[(frame - 1) % KNOTS], pose, knots[frame % KNOTS])
    bare = Trajectory(knots, first, last, np.zeros_like(trajectory.turn), now)
    return replace(bare, turn=_turn_between(bare, trajectory, now)), limited


def _turn_between(new: Trajectory, old: Trajectory, now: float) -> F64:
    """(3, 42, 3) rotation from the new curve to the old one at ``now``, velocity, acceleration."""
    here, velocity, acceleration = _motion(new, now)
    shown, shown_velocity, shown_acceleration = _motion(old, now)
    turn = rotation_vector(here, shown)
    # shown = R(w) here, so shown' = (J w') x shown + R here', with J the left Jacobian of R at w.
    angular = np.cross(shown, shown_velocity - _rotate(turn, velocity))
    turn_velocity = _inverse_left_jacobian(turn, angular)
    turn_acceleration = np.cross(shown, shown_acceleration - _rotate(turn, acceleration))
    return np.stack((turn, turn_velocity, turn_acceleration))


def _motion(trajectory: Trajectory, now: float) -> tuple[F64, F64, F64]:
    """Direction, velocity and acceleration (42, 3) at ``now``, per frame."""
    h = _STEP_FRAMES
    before, here, after = (evaluate(trajectory, now + k * h) for k in (-1, 0, 1))
    return here, (after - before) / (2.0 * h), (after - 2.0 * here + before) / h**2


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


@njit(cache=True)
def _quintic(start, end, s):  # type: ignore[no-untyped-def]
    """Quintic on 0..1 between two (position, velocity, acceleration) at ``s``."""
    p0, v0, a0 = start
    p1, v1, a1 = end
    d = p1 - p0 - v0 - 0.5 * a0
    dv = v1 - v0 - a0
    da = a1 - a0
    c3 = 10.0 * d - 4.0 * dv + 0.5 * da
    c4 = -15.0 * d + 7.0 * dv - da
    c5 = 6.0 * d - 3.0 * dv + 0.5 * da
    return p0 + s * (v0 + s * (0.5 * a0 + s * (c3 + s * (c4 + s * c5))))


@njit(cache=True)
def _curve(knots, first, last, now, out):  # type: ignore[no-untyped-def]
    """The curve through the knots at ``now`` in first..last, as unit vectors into (42, 3)."""
    left = min(int(np.floor(now)), max(last - 1, first))
    right = min(left + 1, last)
    before, here = knots[(left - 1) % KNOTS], knots[left % KNOTS]
    there, after = knots[right % KNOTS], knots[(right + 1) % KNOTS]
    # At the two ends of the curve everything rests.
    moves_here = 1.0 if first < left < last else 0.0
    moves_there = 1.0 if first < right < last else 0.0
    for bone in range(out.shape[0]):
        for axis in range(3):
            b, h = before[bone, axis], here[bone, axis]
            t, a = there[bone, axis], after[bone, axis]
            out[bone, axis] = _quintic(
                (h, moves_here * 0.5 * (t - b), moves_here * (t - 2.0 * h + b)),
                (t, moves_there * 0.5 * (a - h), moves_there * (a - 2.0 * t + h)),
                now - left,
            )
        out[bone] /= np.sqrt(np.sum(out[bone] ** 2))


@njit(cache=True)
def _lay_turn_over(turn, fade, out):  # type: ignore[no-untyped-def]
    """Rotate each direction of (42, 3) by its turn as far as that has not faded, in place."""
    end = (0.0, 0.0, 0.0)
    w = np.empty(3)
    for bone in range(out.shape[0]):
        for axis in range(3):
            start = (
                turn[0, bone, axis],
                turn[1, bone, axis] * _BLEND_FRAMES,
                turn[2, bone, axis] * _BLEND_FRAMES**2,
            )
            w[axis] = _quintic(start, end, fade)
        x, y, z = out[bone]
        angle = np.sqrt(w[0] ** 2 + w[1] ** 2 + w[2] ** 2)
        if angle < 1e-12:
            continue
        kx, ky, kz = w[0] / angle, w[1] / angle, w[2] / angle
        cosine, sine = np.cos(angle), np.sin(angle)
        along = (kx * x + ky * y + kz * z) * (1.0 - cosine)
        out[bone, 0] = x * cosine + (ky * z - kz * y) * sine + kx * along
        out[bone, 1] = y * cosine + (kz * x - kx * z) * sine + ky * along
        out[bone, 2] = z * cosine + (kx * y - ky * x) * sine + kz * along


def _write_knot(previous: F64, pose: F32, out: F64) -> int:
    """Write a (42, 3) pose as unit vectors within ``MAX_TURN_RAD`` of the knot before it."""
    wanted = pose / np.linalg.norm(pose, axis=-1, keepdims=True)
    turn = rotation_vector(previous, wanted)
    angle = np.linalg.norm(turn, axis=-1, keepdims=True)
    held = _rotate(turn * (MAX_TURN_RAD / np.maximum(angle, MAX_TURN_RAD)), previous)
    out[:] = np.where(angle > MAX_TURN_RAD, held, wanted)
    return int(np.count_nonzero(angle > MAX_TURN_RAD))


def rotation_vector(a: F64, b: F64) -> F64:
    """(n, 3) axis times angle of the smallest rotations that take unit vectors ``a`` to ``b``."""
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    cosine = (a * b).sum(axis=-1, keepdims=True)
    # Opposite vectors have no smallest rotation: any axis across ``a`` will do.
    across = np.cross(a, np.where(np.abs(a[:, :1]) < 0.7, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    opposite = (sine < 1e-9) & (cosine < 0.0)
    axis = np.where(opposite, across, axis)
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    vector: F64 = axis * (np.arctan2(sine, cosine) / np.maximum(length, 1e-300))
    return vector


def _rotate(turn: F64, vectors: F64) -> F64:
    """(n, 3) vectors rotated by (n, 3) rotation vectors (Rodrigues' formula)."""
    angle = np.linalg.norm(turn, axis=-1, keepdims=True)
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2
    once = np.cross(turn, vectors)
    rotated: F64 = vectors + first * once + second * np.cross(turn, once)
    return rotated


def _inverse_left_jacobian(turn: F64, angular: F64) -> F64:
    """Rate of a rotation vector (n, 3) that gives an angular velocity (n, 3); angles up to pi."""
    angle = np.linalg.norm(turn, axis=-1, keepdims=True)
    half = np.maximum(0.5 * angle, 1e-4)
    second = (1.0 - half / np.tan(half)) / (4.0 * half**2)
    once = np.cross(turn, angular)
    rate: F64 = angular - 0.5 * once + second * np.cross(turn, once)
    return rate
