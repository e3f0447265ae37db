"""Arms that fit the avatar's own body: what touches still touches, and nothing passes through.

The model's motion belongs to the default skeleton. On an avatar with other proportions the same
rotations put the hands elsewhere. One frame is adapted like this, with only the arms changed:

1. *Together.* Hands that are near each other there keep their distance and side from each other.
2. *Touching.* A hand that is near the body there gets the same distance from the avatar's body.
3. *Apart.* Hands, forearms and elbows are pushed out of the body, the head and each other; the
   push sets in softly before anything touches.
4. The wrists are reached again with two bones (``reach``); hands keep how they are turned.

Where nothing is near, nothing changes, to the last bit. Distances to the body's capsules are
blended (a soft minimum), so that the way out never changes in a step. Two arms that meet are kept
on the sides on which they met; if they go on through each other, that side turns at
``SIDE_TURN_RAD_S`` and the arms go round.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.body import PARENT, Figure, figure
from ha2g_live.realtime.humanoid import BONE_COUNT, WALK_ORDER
from ha2g_live.realtime.kernel import entry, kernel
from ha2g_live.realtime.reach import (
    Arm,
    arm_of,
    at,
    reached,
    swivel_to,
    turn_of_fore,
    turn_of_upper,
    with_lengths,
)
from ha2g_live.realtime.rig import HANDS, LOWER_ARMS, SHOULDERS, UPPER_ARMS, get, put
from ha2g_live.realtime.rotation import (
    Vec,
    about,
    blend,
    cross,
    dot,
    inverse,
    length,
    multiply,
    part,
    ramp,
    rotate,
    scaled,
    to_vector,
    turned,
    unit,
    unit_quat,
)
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

TOGETHER_M = (0.16, 0.34)
"""Palms this near keep their distance from each other; beyond the second figure they do not."""
TOUCHING_M = (0.04, 0.16)
"""The same for a hand and the body."""
SKIN_M = 0.006
"""Room left between what would touch."""
SIDE_TURN_RAD_S = 14.0
CORRECTION_RAD_S = 16.0
"""How fast what contact does to a joint may change: better a hand in a belly for a moment than an
arm that jumps."""
_SOFT_M = 0.008  # of the soft minimum over distances
_ONSET_M = 0.01  # how softly a push sets in
_PASSES, _ROUNDS = 16, 10
_DONE_M = 2e-4
_FOREARM_SHARES = np.array([0.0, 0.3, 0.6, 0.85])
_WALK = np.array(WALK_ORDER)
_MIDDLE_FINGER = 10
"""The middle fingertip's joint among a hand's points: palm, three of the thumb, four a finger."""
_FAR_M = 1e3


class Sides(NamedTuple):
    """What is kept from frame to frame.

    Attributes:
        towards: (2, 2, 3) which side of the right arm the left one is on, for each pair of forearms
            and hands: unit vectors from the right arm's segment to the left arm's; zero before the
            first frame.
        turns: (2, 3, 4) how upper arm, forearm and hand of both sides were turned by contact.
    """

    towards: F64
    turns: F64


def no_sides() -> Sides:
    """Before the first frame."""
    turns = np.zeros((2, 3, 4))
    turns[..., 3] = 1.0
    return Sides(np.zeros((2, 2, 3)), turns)


DEFAULT_FIGURE = figure()
"""The figure that the model's motion belongs to."""


def adapt(
    rotations: F32, target: Figure, sides: Sides, passed_s: float, source: Figure = DEFAULT_FIGURE
) -> tuple[F32, Sides]:
    """One frame of motion on an avatar.

    Args:
        rotations: (55, 4) local unit quaternions as the source figure shows them.
        target: the avatar's figure.
        sides: what the frame before returned.
        passed_s: time since the frame before.
        source: the figure that the motion was made for.

    Returns:
        (55, 4) float32 for the avatar, and the sides for the next frame.
    """
    out = np.array(rotations, dtype=np.float32, order="C")
    asked, towards, turns = out.copy(), sides.towards.copy(), sides.turns.copy()
    fresh = not towards.any()
    _adapt(out, source, target, target is not source, towards, float(passed_s))
    _hold_back(asked, out, turns, math.inf if fresh else CORRECTION_RAD_S * float(passed_s))
    return out, Sides(towards, turns)


def clearance_m(rotations: F32, target: Figure) -> tuple[float, float]:
    """Least distance of hands and forearms from the body, and of one arm from the other.

    Below zero something is inside something. The upper arms, which hang on the trunk, do not count.
    """
    body_m, arms_m = _clearance(np.array(rotations, dtype=np.float32, order="C"), target)
    return float(body_m), float(arms_m)


def hand_points(rotations: F32, target: Figure) -> F64:
    """(2, m, 3) where the points of both hands are, from the hips' rest, metres."""
    turns, places = np.zeros((BONE_COUNT, 4)), np.zeros((BONE_COUNT, 3))
    points = np.zeros(target.point_at.shape)
    _points(np.array(rotations, dtype=np.float32, order="C"), target, turns, places, points)
    return points


@entry
def _adapt(
    pose: F32,
    source: Figure,
    target: Figure,
    differs: bool,
    towards: F64,
    passed_s: float,
) -> None:
    turns, places = np.zeros((pose.shape[0], 4)), np.zeros((pose.shape[0], 3))
    points = np.zeros(target.point_at.shape)
    _find_points(pose, target, turns, places, points)
    old_left, old_right = _arm(0, turns, places), _arm(1, turns, places)
    moved = np.zeros((2, 3))  # of the wrists
    if differs:
        _keep_touch(pose, source, target, turns, places, points, moved)
    ends = _body(target, turns, places)
    _push_softly(target, ends, points, moved)
    left, right = old_left, old_right
    if length(at(moved, 0)) > 1e-7:
        left = reached(left, blend(1.0, left.wrist, 1.0, at(moved, 0)), 0.0)
    if length(at(moved, 1)) > 1e-7:
        right = reached(right, blend(1.0, right.wrist, 1.0, at(moved, 1)), 0.0)
    for _ in range(_ROUNDS):
        passes = 0
        for _ in range(_PASSES):
            left, deep_left = _push_arm(target, ends, left, 0, points, old_left)
            right, deep_right = _push_arm(target, ends, right, 1, points, old_right)
            left, right, deep = _part_arms(
                target, left, right, points, old_left, old_right, towards
            )
            if max(deep, deep_left, deep_right) < _DONE_M:
                break
            passes += 1
        if passes == 0:
            break
        # What an elbow can do is less than what was asked of it: see what is left to be done.
        left = _swung_out(target, ends, reached(old_left, left.wrist, swivel_to(old_left, left)))
        right = _swung_out(
            target, ends, reached(old_right, right.wrist, swivel_to(old_right, right))
        )
    _turn_sides(points, old_left, old_right, towards, passed_s)
    for side in range(2):
        old, new = (old_left, left) if side == 0 else (old_right, right)
        if _differs(old, new):
            _write(pose, side, turns, old, reached(old, new.wrist, swivel_to(old, new)))


@kernel
def _differs(old: Arm, new: Arm) -> bool:
    moved = length(blend(1.0, old.wrist, -1.0, new.wrist))
    return moved + length(blend(1.0, old.elbow, -1.0, new.elbow)) > 1e-7


@entry
def _hold_back(asked: F32, out: F32, turns: F64, most_rad: float) -> None:
    """Keep each joint's turn by contact within reach of what it was; both are updated."""
    for side in range(2):
        for k in range(3):
            bone = (UPPER_ARMS[side], LOWER_ARMS[side], HANDS[side])[k]
            plain = get(asked, bone)
            before = (turns[side, k, 0], turns[side, k, 1], turns[side, k, 2], turns[side, k, 3])
            now = multiply(get(out, bone), inverse(plain))
            change = multiply(now, inverse(before))
            angle = length(to_vector(change))
            if angle > most_rad:
                now = unit_quat(multiply(part(change, most_rad / angle), before))
                put(out, bone, multiply(now, plain))
            for n in range(4):
                turns[side, k, n] = now[n]


# --- where things are


@kernel
def _walk(pose: F32, figure: Figure, turns: F64, places: F64) -> None:
    """World rotations and positions of all bones, hips at the origin."""
    for bone in _WALK:
        own = get(pose, bone)
        parent = PARENT[bone]
        if parent < 0:
            for k in range(4):
                turns[bone, k] = own[k]
            continue
        turn = get(turns, parent)
        world = multiply(turn, own)
        step = rotate(turn, at(figure.offsets, bone))
        for k in range(4):
            turns[bone, k] = world[k]
        for k in range(3):
            places[bone, k] = places[parent, k] + step[k]


@kernel
def _find_points(pose: F32, figure: Figure, turns: F64, places: F64, points: Any) -> None:
    """Bones, and the points of both hands (2, m, 3)."""
    _walk(pose, figure, turns, places)
    for side in range(2):
        for n in range(points.shape[1]):
            bone = figure.point_bone[side, n]
            step = rotate(get(turns, bone), at(figure.point_at[side], n))
            for k in range(3):
                points[side, n, k] = places[bone, k] + step[k]


@entry
def _points(
    pose: F32,
    figure: Figure,
    turns: F64,
    places: F64,
    points: F64,
) -> None:
    _find_points(pose, figure, turns, places, points)


@kernel
def _arm(side: int, turns: F64, places: F64) -> Arm:
    away = -1.0 if side == 0 else 1.0
    upper = UPPER_ARMS[side]
    hinge = rotate(get(turns, upper), (0.0, -away, 0.0))
    return arm_of(at(places, upper), at(places, LOWER_ARMS[side]), at(places, HANDS[side]), hinge)


@kernel
def _body(figure: Figure, turns: F64, places: F64) -> Any:
    """(n, 2, 3) axes of the body's capsules."""
    ends: Any = np.empty(figure.volume_ends.shape)
    for n in range(ends.shape[0]):
        bone = figure.volume_bone[n]
        for end in range(2):
            step = rotate(get(turns, bone), at(figure.volume_ends[n], end))
            for k in range(3):
                ends[n, end, k] = places[bone, k] + step[k]
    return ends


@kernel
def _from_axis(point: Vec, start: Vec, end: Vec) -> Vec:
    """From the nearest point of a segment to a point."""
    along = blend(1.0, end, -1.0, start)
    step = blend(1.0, point, -1.0, start)
    square = dot(along, along)
    share = dot(step, along) / square if square > 1e-12 else 0.0
    return blend(1.0, step, -min(max(share, 0.0), 1.0), along)


@kernel
def _distance(figure: Figure, ends: Any, point: Vec, radius: float) -> tuple[float, Vec]:
    """Soft distance of a ball from the body, and the direction away from it."""
    least = _FAR_M
    for n in range(ends.shape[0]):
        away = _from_axis(point, at(ends[n], 0), at(ends[n], 1))
        least = min(least, length(away) - figure.volume_radius[n])
    total, out = 0.0, (0.0, 0.0, 0.0)
    for n in range(ends.shape[0]):
        away = _from_axis(point, at(ends[n], 0), at(ends[n], 1))
        far = length(away)
        weight = math.exp((least - far + figure.volume_radius[n]) / _SOFT_M)
        total += weight
        if far > 1e-9:
            # Deep inside, near an axis, forward is the way out.
            forward = 1.0 - ramp(far / figure.volume_radius[n], 0.05, 0.5)
            out = blend(1.0, out, weight, unit(blend(1.0 / far, away, forward, (0.0, 0.0, 1.0))))
    size = length(out)
    out = scaled(1.0 / size, out) if size > 1e-9 else (0.0, 0.0, 1.0)
    return least - _SOFT_M * math.log(total) - radius, out


@kernel
def _hand_distance(
    figure: Figure, ends: Any, points: Any, side: int, shift: Vec
) -> tuple[float, Vec]:
    """Soft distance of a whole hand from the body."""
    count = points.shape[1]
    least = _FAR_M
    values = np.empty(count)
    ways = np.empty((count, 3))
    for n in range(count):
        point = blend(1.0, at(points[side], n), 1.0, shift)
        values[n], way = _distance(figure, ends, point, figure.point_radius[n])
        least = min(least, values[n])
        ways[n, 0], ways[n, 1], ways[n, 2] = way
    total, out = 0.0, (0.0, 0.0, 0.0)
    for n in range(count):
        weight = math.exp((least - values[n]) / _SOFT_M)
        total += weight
        out = blend(1.0, out, weight, at(ways, n))
    size = length(out)
    out = scaled(1.0 / size, out) if size > 1e-9 else (0.0, 0.0, 1.0)
    return least - _SOFT_M * math.log(total), out


# --- what is changed


@kernel
def _shift(moved: F64, side: int, by: float, way: Vec) -> None:
    for k in range(3):
        moved[side, k] += by * way[k]


@kernel
def _keep_touch(
    pose: F32, source: Figure, target: Figure, turns: F64, places: F64, points: F64, moved: F64
) -> None:
    """Hands near each other, and hands near the body, are so on the avatar too."""
    there_turns, there_places = np.zeros(turns.shape), np.zeros(places.shape)
    there = np.zeros(points.shape)
    _find_points(pose, source, there_turns, there_places, there)
    apart = blend(1.0, at(there[0], 0), -1.0, at(there[1], 0))
    weight = 1.0 - ramp(length(apart), TOGETHER_M[0], TOGETHER_M[1])
    if weight > 0.0:
        here = blend(1.0, at(points[0], 0), -1.0, at(points[1], 0))
        # Smaller hands that meet at their tips have their palms nearer to each other.
        scale = _hand_m(points, places) / max(_hand_m(there, there_places), 1e-3)
        change = blend(weight * scale, apart, -weight, here)
        _shift(moved, 0, 0.5, change)
        _shift(moved, 1, -0.5, change)
    there_ends = _body(source, there_turns, there_places)
    ends = _body(target, turns, places)
    for side in range(2):
        was, _ = _hand_distance(source, there_ends, there, side, (0.0, 0.0, 0.0))
        weight = 1.0 - ramp(was, TOUCHING_M[0], TOUCHING_M[1])
        if weight > 0.0:
            for _ in range(3):
                now, way = _hand_distance(target, ends, points, side, at(moved, side))
                _shift(moved, side, weight * (max(was, 0.0) - now), way)


@kernel
def _hand_m(points: Any, places: F64) -> float:
    """From the left wrist to its middle finger."""
    return length(blend(1.0, at(points[0], _MIDDLE_FINGER), -1.0, at(places, HANDS[0])))


@kernel
def _softly(over: float) -> float:
    """A push of ``over`` that begins before it is needed, without a corner."""
    x = over / _ONSET_M
    if x > 30.0:
        return over
    return _ONSET_M * math.log1p(math.exp(x))


@kernel
def _push_softly(figure: Figure, ends: Any, points: Any, moved: F64) -> None:
    for side in range(2):
        now, way = _hand_distance(figure, ends, points, side, at(moved, side))
        push = _softly(SKIN_M - now)
        if push > 1e-5:
            _shift(moved, side, push, way)


@kernel
def _push_arm(
    figure: Figure, ends: F64, arm: Arm, side: int, points: F64, old: Arm
) -> tuple[Arm, float]:
    """One hand, forearm and elbow out of the body; also says how deep something was."""
    elbow, wrist, worst = arm.elbow, arm.wrist, 0.0
    now, way = _hand_distance(figure, ends, points, side, blend(1.0, wrist, -1.0, old.wrist))
    if now < 0.0:
        worst = -now
        wrist = blend(1.0, wrist, -now + 1e-4, way)
    for share in _FOREARM_SHARES:
        point = blend(1.0 - share, arm.elbow, share, arm.wrist)
        now, way = _distance(figure, ends, point, _room(figure, 0, share))
        if now < 0.0:
            worst = max(worst, -now)
            # Moves the point out by as much as it is in.
            push = -now / (share * share + (1.0 - share) * (1.0 - share)) + 1e-4
            elbow = blend(1.0, elbow, push * (1.0 - share), way)
            wrist = blend(1.0, wrist, push * share, way)
    if worst == 0.0:
        return arm, 0.0
    return with_lengths(arm, elbow, wrist), worst


@kernel
def _swung_out(figure: Figure, ends: Any, arm: Arm) -> Arm:
    """The arm turned about the shoulder as a whole where its elbow is in the body."""
    for _ in range(3):
        now, way = _distance(figure, ends, arm.elbow, figure.arm_radius[0])
        if now >= 0.0:
            break
        bone = blend(1.0, arm.elbow, -1.0, arm.shoulder)
        turn = scaled((1e-3 - now) / (arm.upper * arm.upper), cross(bone, way))
        elbow = blend(1.0, arm.shoulder, 1.0, turned(bone, turn))
        reach = blend(1.0, arm.wrist, -1.0, arm.shoulder)
        wrist = blend(1.0, arm.shoulder, 1.0, turned(reach, turn))
        arm = Arm(arm.shoulder, elbow, wrist, turned(arm.normal, turn), arm.upper, arm.fore)
    return arm


@kernel
def _segment(arm: Arm, old: Arm, points: F64, side: int, part: int) -> tuple[Vec, Vec]:
    """Ends of an arm's forearm (0) or hand (1), the latter from wrist to middle finger."""
    if part == 0:
        return arm.elbow, arm.wrist
    shift = blend(1.0, arm.wrist, -1.0, old.wrist)
    return arm.wrist, blend(1.0, at(points[side], _MIDDLE_FINGER), 1.0, shift)


_HAND_RADIUS_M = 0.032
"""Half the width of a hand with its fingers, as a capsule."""


@kernel
def _nearest(a: Vec, b: Vec, c: Vec, d: Vec) -> Vec:
    """Shares along the segments a-b and c-d of their nearest points; the third is the distance.

    Follows the clamped solution in C. Ericson, Real-Time Collision Detection, section 5.1.9.
    """
    u, v, w = blend(1.0, b, -1.0, a), blend(1.0, d, -1.0, c), blend(1.0, a, -1.0, c)
    uu, vv, uv, uw, vw = dot(u, u), dot(v, v), dot(u, v), dot(u, w), dot(v, w)
    flat = uu * vv - uv * uv
    s = min(max((uv * vw - uw * vv) / flat, 0.0), 1.0) if flat > 1e-9 * uu * vv else 0.5
    t = (uv * s + vw) / max(vv, 1e-12)
    if t < 0.0:
        t = 0.0
        s = min(max(-uw / max(uu, 1e-12), 0.0), 1.0)
    elif t > 1.0:
        t = 1.0
        s = min(max((uv - uw) / max(uu, 1e-12), 0.0), 1.0)
    gap = blend(1.0, blend(1.0, w, s, u), -t, v)
    return (s, t, length(gap))


@kernel
def _room(figure: Figure, part: int, share: float) -> float:
    """Radius of a forearm or hand at a share of its length."""
    if part == 1:
        return _HAND_RADIUS_M
    return float((1.0 - share) * figure.arm_radius[0] + share * figure.arm_radius[1])


@kernel
def _part_arms(
    figure: Figure, left: Arm, right: Arm, points: F64, old_left: Arm, old_right: Arm, towards: F64
) -> tuple[Arm, Arm, float]:
    """Two arms out of each other; also says how deep they were."""
    worst = 0.0
    for i in range(2):
        for j in range(2):
            a, b = _segment(left, old_left, points, 0, i)
            c, d = _segment(right, old_right, points, 1, j)
            s, t, far = _nearest(a, b, c, d)
            room = _room(figure, i, s) + _room(figure, j, t) + SKIN_M
            gap = blend(1.0, blend(1.0 - s, a, s, b), -1.0, blend(1.0 - t, c, t, d))
            side = at(towards[i], j)
            if length(side) < 0.5:
                side = scaled(1.0 / far, gap) if far > 1e-6 else (-1.0, 0.0, 0.0)
            apart = dot(gap, side)
            # On the side on which they met the plain distance counts, past it the signed one.
            over = room - (far if apart > 0.0 else apart)
            if over <= 0.0:
                continue
            worst = max(worst, over)
            if apart > 0.0 and far > 1e-6:
                share = ramp(apart / far, 0.0, 0.6)
                side = unit(blend(share / far, gap, 1.0 - share, side))
            left = _shifted(left, i, s, 0.5 * over, side)
            right = _shifted(right, j, t, -0.5 * over, side)
    return left, right, worst


@kernel
def _shifted(arm: Arm, part: int, share: float, by: float, way: Vec) -> Arm:
    """An arm with a point of its forearm (0) or hand (1) moved."""
    if part == 1:
        share = 1.0
    by /= share * share + (1.0 - share) * (1.0 - share)
    elbow = blend(1.0, arm.elbow, by * (1.0 - share), way)
    return with_lengths(arm, elbow, blend(1.0, arm.wrist, by * share, way))


@kernel
def _turn_sides(points: F64, old_left: Arm, old_right: Arm, towards: F64, passed_s: float) -> None:
    """Let the kept sides follow where the arms are asked to be, at a bounded speed."""
    for i in range(2):
        for j in range(2):
            a, b = _segment(old_left, old_left, points, 0, i)
            c, d = _segment(old_right, old_right, points, 1, j)
            s, t, far = _nearest(a, b, c, d)
            if far < 1e-6:
                continue
            gap = blend(1.0 - s, a, s, b)
            gap = scaled(1.0 / far, blend(1.0, gap, -1.0, blend(1.0 - t, c, t, d)))
            kept = at(towards[i], j)
            if length(kept) < 0.5:
                kept = gap
            axis = cross(kept, gap)
            sine, cosine = length(axis), dot(kept, gap)
            angle = math.atan2(sine, cosine)
            # Half a circle is taken by way of the front.
            axis = scaled(1.0 / sine, axis) if sine > 1e-6 else (0.0, 1.0, 0.0)
            # Arms far from each other have no side to keep.
            most = SIDE_TURN_RAD_S * passed_s if far < 0.25 else math.pi
            kept = unit(rotate(about(axis, min(angle, most)), kept))
            for k in range(3):
                towards[i, j, k] = kept[k]


@kernel
def _write(pose: F32, side: int, turns: F64, old: Arm, new: Arm) -> None:
    """The local rotations of an arm that was moved; its hand stays turned as it was."""
    upper = multiply(turn_of_upper(old, new), get(turns, UPPER_ARMS[side]))
    fore = multiply(turn_of_fore(old, new), get(turns, LOWER_ARMS[side]))
    put(pose, UPPER_ARMS[side], multiply(inverse(get(turns, SHOULDERS[side])), upper))
    put(pose, LOWER_ARMS[side], multiply(inverse(upper), fore))
    put(pose, HANDS[side], multiply(inverse(fore), get(turns, HANDS[side])))


@entry
def _clearance(pose: F32, figure: Figure) -> tuple[float, float]:
    turns, places = np.zeros((pose.shape[0], 4)), np.zeros((pose.shape[0], 3))
    points: Any = np.zeros(figure.point_at.shape)
    _find_points(pose, figure, turns, places, points)
    ends = _body(figure, turns, places)
    body, arms = _FAR_M, _FAR_M
    left, right = _arm(0, turns, places), _arm(1, turns, places)
    for side in range(2):
        arm = left if side == 0 else right
        for n in range(points.shape[1]):
            body = min(body, _plain(figure, ends, at(points[side], n), figure.point_radius[n]))
        for n in range(21):
            share = n / 20.0
            point = blend(1.0 - share, arm.elbow, share, arm.wrist)
            body = min(body, _plain(figure, ends, point, _room(figure, 0, share)))
    for i in range(2):
        for j in range(2):
            a, b = _segment(left, left, points, 0, i)
            c, d = _segment(right, right, points, 1, j)
            s, t, far = _nearest(a, b, c, d)
            arms = min(arms, far - _room(figure, i, s) - _room(figure, j, t))
    return body, arms


@kernel
def _plain(figure: Figure, ends: Any, point: Vec, radius: float) -> float:
    """Distance of a ball from the body."""
    least = _FAR_M
    for n in range(ends.shape[0]):
        away = _from_axis(point, at(ends[n], 0), at(ends[n], 1))
        least = min(least, length(away) - figure.volume_radius[n] - radius)
    return least
