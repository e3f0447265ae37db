"""The curve of every joint through predicted poses, and how a newer prediction changes it.

A pose is the local rotation of each of the 55 humanoid bones, so what lies between two human poses
bends at the joints where a person does. The predicted frames are knots of a uniform cubic B-spline
of quaternions, made unit length at the end. Near a knot the curve lies at a sixth of the first, two
thirds of the second and a sixth of the third of it and its neighbours. So its acceleration has no
step, and the small tremble of a network from frame to frame, which a curve through every knot would
show as jerk, is left out. The two ends are passed exactly. It is computed as a quintic between two
knots, so that both ends may rest.

A new prediction replaces knots that are already in use. What was shown until then must not jump:
each joint's difference between the old and the new curve at that moment is kept as a rotation, with
its speed and acceleration, and led to zero by a quintic over ``BLEND_S``: inertialisation, after
D. Bollo, "Inertialization: High-Performance Animation Transitions in Gears of War", GDC 2018.
Position and velocity go on exactly, acceleration to first order of the difference. When the
predictions agree the rotation is zero and the curve is exactly the predicted one.

The last knot has zero velocity and acceleration. Normally it is never reached: the next
prediction comes first. When the model stalls the motion therefore eases to a stop there and holds.

Time here is in pose frames as a float: stream seconds times ``POSE_FPS``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.humanoid import BONE_COUNT
from ha2g_live.realtime.kernel import entry, kernel
from ha2g_live.realtime.rig import get
from ha2g_live.realtime.rotation import (
    Quat,
    Vec,
    blend,
    from_vector,
    inverse,
    length,
    multiply,
    part,
    scaled,
    to_vector,
    turned,
    unit_quat,
    vector_rate,
)
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

BLEND_S = 0.22
"""Time over which a difference of predictions fades out."""
MAX_TURN_RAD = 1.4
"""Furthest turn of a joint from one pose frame to the next: 21 rad/s, more than people do.

It keeps neighbouring knots on one side, where a curve made unit length is well behaved.
"""
KNOTS = 80
"""Knots kept: those of two windows of 34 frames, which may be shown two windows late.

A curve needs one behind and two ahead of the moment it is asked for.
"""

_BLEND_FRAMES = BLEND_S * POSE_FPS
_MOST_BULGE, _SMALL_RAD = 4.0, 0.6
_BACK_SHARE = 0.01
_STEP_FRAMES = 0.01  # for velocities and accelerations by central differences


class Trajectory(NamedTuple):
    """The curve of every joint, a plain value.

    Attributes:
        knots: (KNOTS, 55, 4) float64 unit quaternions xyzw, frame ``f`` in row ``f % KNOTS``, each
            of the sign that is nearer to the frame before.
        first: oldest frame held.
        last: newest frame held.
        turn: (3, 55, 3) rotation vector that is laid over the curve, its velocity and its
            acceleration, as they were at ``turn_at``.
        turn_at: moment at which ``turn`` began to fade.
        fade_frames: time in which it fades.
    """

    knots: F64
    first: int
    last: int
    turn: F64
    turn_at: float
    fade_frames: float = _BLEND_FRAMES


def start_at(frame: int, rotations: F32) -> Trajectory:
    """A trajectory that rests in one (55, 4) pose, known from ``frame`` on."""
    return Trajectory(
        knots=np.broadcast_to(rotations.astype(np.float64), (KNOTS, BONE_COUNT, 4)).copy(),
        first=frame,
        last=frame,
        turn=np.zeros((3, BONE_COUNT, 3)),
        turn_at=float(frame),
    )


def evaluate(trajectory: Trajectory, now: float) -> F32:
    """(55, 4) float32 unit quaternions at ``now``; beyond the first and the last frame it holds."""
    out = np.empty((BONE_COUNT, 4), dtype=np.float32)
    _show(trajectory, float(now), out)
    return out


def extend(
    trajectory: Trajectory, first_frame: int, rotations: F32, now: float
) -> tuple[Trajectory, int]:
    """Replace all knots from ``first_frame`` on; what is shown at ``now`` does not step.

    Args:
        trajectory: the curve so far.
        first_frame: frame of ``rotations[0]``; frames missing before it are held.
        rotations: (frames, 55, 4) prediction, unit quaternions.
        now: the moment shown last.

    Returns:
        The new curve, and how many turns had to be held to ``MAX_TURN_RAD``.
    """
    last = first_frame + len(rotations) - 1
    first = max(trajectory.first, last - KNOTS + 1)
    knots = trajectory.knots.copy()
    for frame in range(max(trajectory.last + 1, first), first_frame):
        knots[frame % KNOTS] = trajectory.knots[trajectory.last % KNOTS]
    # The copy makes one compiled kernel fit read-only and strided predictions.
    limited = _write_knots(knots, first_frame, np.array(rotations, dtype=np.float64, order="C"))
    # A long fade that has begun goes on at its pace.
    left = trajectory.fade_frames - (now - trajectory.turn_at)
    fade = max(_BLEND_FRAMES, left)
    bare = Trajectory(knots, first, last, np.zeros_like(trajectory.turn), float(now), fade)
    return _carried_over(bare, trajectory), limited


def begin_anew(
    trajectory: Trajectory, first_frame: int, rotations: F32, now: float, fade_s: float
) -> tuple[Trajectory, int]:
    """Go over to a prediction that has nothing in common with the curve so far.

    The new curve rests in its first pose until ``first_frame``; what was shown fades over it.

    Args:
        trajectory: the curve so far.
        first_frame: frame of ``rotations[0]``.
        rotations: (frames, 55, 4) prediction, unit quaternions.
        now: the moment shown last.
        fade_s: time in which the difference to what was shown fades.

    Returns:
        The new curve, and how many turns had to be held to ``MAX_TURN_RAD``.
    """
    knots = start_at(first_frame, rotations[0]).knots
    limited = _write_knots(knots, first_frame, np.array(rotations, dtype=np.float64, order="C"))
    last = first_frame + len(rotations) - 1
    nothing = np.zeros_like(trajectory.turn)
    bare = Trajectory(knots, first_frame, last, nothing, float(now), fade_s * POSE_FPS)
    return _carried_over(bare, trajectory), limited


def continued(before: F32, last: F32, shares: F64) -> F32:
    """Poses further along the way from one to the next.

    Args:
        before: (55, 4) unit quaternions.
        last: the pose after it.
        shares: (n,) how far beyond ``last`` each joint is, as multiples of its turn up to there.

    Returns:
        (n, 55, 4) float32.
    """
    out = np.empty((len(shares), BONE_COUNT, 4), dtype=np.float32)
    _continue(np.array(before, dtype=np.float64), np.array(last, dtype=np.float64), shares, out)
    return out


def _carried_over(bare: Trajectory, old: Trajectory) -> Trajectory:
    """A new curve with its difference from the old one laid over it."""
    turn = np.empty_like(bare.turn)
    _turns_between(bare, old, turn)
    return bare._replace(turn=turn)


@entry
def _show(trajectory: Trajectory, now: float, out: F32) -> None:
    """All rotations at ``now`` into (55, 4), with w >= 0."""
    for bone in range(out.shape[0]):
        q = _rotation(trajectory, bone, now)
        sign = 1.0 if q[3] >= 0.0 else -1.0
        for k in range(4):
            out[bone, k] = sign * q[k]


@entry
def _continue(before: F64, last: F64, shares: F64, out: F32) -> None:
    for bone in range(out.shape[1]):
        here = get(last, bone)
        turn = multiply(here, inverse(get(before, bone)))
        for n in range(out.shape[0]):
            q = unit_quat(multiply(part(turn, shares[n]), here))
            for k in range(4):
                out[n, bone, k] = q[k]


@kernel
def _knot(knots: F64, frame: int, bone: int) -> Quat:
    x, y, z, w = knots[frame % KNOTS, bone]
    return (x, y, z, w)


@entry
def _write_knots(knots: F64, first_frame: int, rotations: F64) -> int:
    """Write poses (frames, 55, 4), each within ``MAX_TURN_RAD`` of the one before.

    Returns how many had to be held to that.
    """
    limited = 0
    for n in range(rotations.shape[0]):
        frame = first_frame + n
        for bone in range(rotations.shape[1]):
            before = _knot(knots, frame - 1, bone)
            x, y, z, w = rotations[n, bone]
            wanted = (x, y, z, w)
            turn = multiply(wanted, inverse(before))
            angle = length(to_vector(turn))
            if angle > MAX_TURN_RAD:
                limited += 1
                turn = part(turn, MAX_TURN_RAD / angle)
                wanted = unit_quat(multiply(turn, before))
            # Of the two signs of a quaternion the one on the side of the frame before.
            near = 0.0
            for k in range(4):
                near += before[k] * wanted[k]
            sign = 1.0 if near >= 0.0 else -1.0
            for k in range(4):
                knots[frame % KNOTS, bone, k] = sign * wanted[k]
    return limited


@entry
def _turns_between(new: Trajectory, old: Trajectory, out: F64) -> None:
    """Rotations from the new curve to the old at ``new.turn_at``, with velocity and acceleration.

    Into (3, 55, 3), as ``Trajectory.turn``.
    """
    for bone in range(out.shape[1]):
        here, velocity, acceleration = _motion(new, bone, new.turn_at)
        shown, shown_velocity, shown_acceleration = _motion(old, bone, new.turn_at)
        turn = to_vector(multiply(shown, inverse(here)))
        # shown = R(w) here, so the angular velocity of shown is J w' + R that of here, with J the
        # left Jacobian of R at w. The acceleration leaves out what is of second order in w.
        turn_velocity = vector_rate(turn, blend(1.0, shown_velocity, -1.0, turned(velocity, turn)))
        turn_acceleration = blend(1.0, shown_acceleration, -1.0, turned(acceleration, turn))
        # Taken along for the whole of a long fade a brief acceleration would swing far out.
        n = new.fade_frames
        most = (_SMALL_RAD + _MOST_BULGE * (length(turn) + n * length(turn_velocity))) / (n * n)
        size = length(turn_acceleration)
        if size > most:
            turn_acceleration = scaled(most / size, turn_acceleration)
        for axis in range(3):
            out[0, bone, axis] = turn[axis]
            out[1, bone, axis] = turn_velocity[axis]
            out[2, bone, axis] = turn_acceleration[axis]


@kernel
def _motion(trajectory: Trajectory, bone: int, now: float) -> tuple[Quat, Vec, Vec]:
    """Rotation of one joint, its angular velocity and acceleration at ``now``, per frame."""
    h = _STEP_FRAMES
    here = _rotation(trajectory, bone, now)
    back = inverse(here)
    before = to_vector(multiply(_rotation(trajectory, bone, now - h), back))
    after = to_vector(multiply(_rotation(trajectory, bone, now + h), back))
    velocity = blend(1.0 / (2.0 * h), after, -1.0 / (2.0 * h), before)
    return here, velocity, blend(1.0 / h**2, after, 1.0 / h**2, before)


@kernel
def _rotation(trajectory: Trajectory, bone: int, now: float) -> Quat:
    """Rotation of one joint at ``now``: the curve, and what is left of the turn over it."""
    along = _curve(trajectory, bone, min(max(now, trajectory.first), trajectory.last))
    fade = (now - trajectory.turn_at) / trajectory.fade_frames
    if fade >= 1.0:
        return along
    # A little before its begin the fade goes on backward: ``_motion`` looks at both sides, also
    # when two predictions come between the same two frames.
    fade = fade if fade > -_BACK_SHARE else 0.0
    return multiply(from_vector(_faded(trajectory, bone, fade)), along)


@kernel
def _curve(trajectory: Trajectory, bone: int, now: float) -> Quat:
    """The curve through the knots of one joint at ``now`` in first..last."""
    left = min(math.floor(now), max(trajectory.last - 1, trajectory.first))
    return unit_quat(
        (
            _coordinate(trajectory, bone, 0, left, now - left),
            _coordinate(trajectory, bone, 1, left, now - left),
            _coordinate(trajectory, bone, 2, left, now - left),
            _coordinate(trajectory, bone, 3, left, now - left),
        )
    )


@kernel
def _coordinate(trajectory: Trajectory, bone: int, axis: int, left: int, s: float) -> float:
    """One coordinate of the curve at ``s`` in 0..1 from frame ``left`` to the next."""
    knots, first, last = trajectory.knots, trajectory.first, trajectory.last
    right = min(left + 1, last)
    before, here = knots[(left - 1) % KNOTS, bone, axis], knots[left % KNOTS, bone, axis]
    there, after = knots[right % KNOTS, bone, axis], knots[(right + 1) % KNOTS, bone, axis]
    # At the two ends of the curve everything rests.
    moves_here = 1.0 if first < left < last else 0.0
    moves_there = 1.0 if first < right < last else 0.0
    bends_here = moves_here * (there - 2.0 * here + before)
    bends_there = moves_there * (after - 2.0 * there + here)
    return _quintic(
        (here + bends_here / 6.0, moves_here * 0.5 * (there - before), bends_here),
        (there + bends_there / 6.0, moves_there * 0.5 * (after - here), bends_there),
        s,
    )


@kernel
def _faded(trajectory: Trajectory, bone: int, fade: float) -> Vec:
    """What is left at ``fade`` in 0..1 of a joint's turn."""
    turn, n = trajectory.turn, trajectory.fade_frames
    x, y, z = turn[0, bone]
    dx, dy, dz = turn[1, bone]
    ddx, ddy, ddz = turn[2, bone]
    end = (0.0, 0.0, 0.0)
    return (
        _quintic((x, n * dx, n**2 * ddx), end, fade),
        _quintic((y, n * dy, n**2 * ddy), end, fade),
        _quintic((z, n * dz, n**2 * ddz), end, fade),
    )


@kernel
def _quintic(start: tuple[float, float, float], end: tuple[float, float, float], s: float) -> float:
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
