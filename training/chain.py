"""Poses of a chain of units: one movement grows out of the other without a corner.

Each movement has a target that is its clip, played so that the wrists are fastest ``PEAK_S`` after
the event. What the pose was off that target, in position and velocity, dies away as a critically
damped spring does (inertialisation). Everything here follows from the events, the style and the
sound heard so far, so that a causal network can learn it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d

from ha2g_live.engines.base import REST
from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, bone_index, normalise
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.clips import F64, mirror
from ha2g_live.training.styles import Style
from ha2g_live.training.units import Unit, share

PEAK_S = 0.12
"""From the event to the highest speed of the movement it begins."""

FINE = 4
"""Poses computed for each pose frame: velocities at an event need more than 15 Hz."""
_FINE_HZ = POSE_FPS * FINE
_SMOOTH = np.hanning(9)[1:-1] / np.hanning(9).sum()
"""15 poses a second cannot carry what is faster than 7.5 Hz: it would come back as trembling. The
price is a movement that begins, by a hair, 50 ms before its event."""

_SPRING_HZ = {"arm": 10.0, "trunk": 7.0}  # of a movement, 1/s
_EASE = 0.5  # of the beginning: 1 is without a jolt, 0 the quickest
_REST_SPRING_HZ = {"arm": 8.0, "trunk": 5.0}  # of the way back to rest
_CREEP = 0.25  # speed of the clip while hands are held
_FLOAT_RAD = 0.16  # held hands are never quite still
_FLOAT_S = 1.6
_SECOND_HAND_LAG_S = 0.07
_SECOND_HAND_SLOWER = 0.75
_TAP_RAD = 0.42
_TAP_S = 0.2
_OTHER_TAP = 0.45
_LEAN_RAD = 0.035
_TURN_RAD = 0.16
_TILT_RAD = 0.07
_NOD_RAD = 0.09
_NOD_S = 0.14
_HEAD_SHARE = 0.6  # of the clip's own turns, some of which look at somebody else
_HEAD_SPRING_HZ = 3.5
_SPEECH_NOD_RAD_PER_DB = 0.0045

HEAD_BONES = [
    bone_index("neck", "nose"),
    bone_index("nose", "right_eye"),
    bone_index("nose", "left_eye"),
    bone_index("right_eye", "right_ear"),
    bone_index("left_eye", "left_ear"),
]
TRUNK_BONES = [
    bone_index("spine", "neck"),
    bone_index("neck", "left_shoulder"),
    bone_index("neck", "right_shoulder"),
]


def _arm(side: str) -> list[int]:
    return [
        i
        for i, (_, child) in enumerate(BONES)
        if JOINT_NAMES[child].startswith(side)
        and not JOINT_NAMES[child].endswith(("shoulder", "eye", "ear"))
    ]


ARM_BONES = {side: _arm(f"{side}_") for side in ("left", "right")}
_BOTH_ARMS = ARM_BONES["left"] + ARM_BONES["right"]
_FOREARM_BONES = {
    side: [b for b in ARM_BONES[side] if b != bone_index(f"{side}_shoulder", f"{side}_elbow")]
    for side in ARM_BONES
}


@dataclass(frozen=True, slots=True)
class Event:
    """A movement that begins.

    Attributes:
        frame: pose frame (15 Hz) at which it is decided; poses after it move.
        choice: number of the unit in the catalogue.
        unit: the unit, or an idle clip as a unit whose name begins with ``REST``.
        effort: how strong the voice is just then, about -1 to 1.
    """

    frame: int
    choice: int
    unit: Unit
    effort: float = 0.0

    @property
    def rests(self) -> bool:
        """Whether it leads to rest."""
        return self.unit.name.startswith(REST)


def poses(
    events: Sequence[Event], frames: int, style: Style, rest: F32, style_rest: F32, loudness_db: F64
) -> F32:
    """Play events.

    Args:
        events: in order of time; the first at frame 0.
        frames: pose frames to make.
        style: how large, and how far the second hand follows.
        rest: (42, 3) the clips' pose at rest.
        style_rest: (42, 3) the style's.
        loudness_db: (frames * FINE,) level of the voice over its own mean as heard by then.

    Returns:
        (frames, 42, 3) unit directions at 15 Hz.
    """
    count = frames * FINE
    out = np.empty((count + FINE, 42, 3))
    now, velocity = np.zeros((42, 3)), np.zeros((42, 3))
    bounds = [min(event.frame * FINE, count) for event in events] + [count]
    base: tuple[Event, int] = (events[0], 0)  # what taps are laid on
    for at, event in enumerate(events):
        first, last = bounds[at], bounds[at + 1]
        if last <= first:
            continue
        if event.unit.clip is not None:
            base = (event, first)
        # One more sample, to know position and velocity at the next event.
        times_s = (np.arange(first, last + 2) - base[1]) / _FINE_HZ
        target = _target(base[0], times_s, style, rest, style_rest)
        since_s = (np.arange(first, last + 2) - first) / _FINE_HZ
        offset, speed = now - target[0], velocity - (target[1] - target[0]) * _FINE_HZ
        if at == 0:
            offset, speed = np.zeros_like(offset), np.zeros_like(speed)
        played = target + _spring(offset, speed, since_s, event)
        out[first : last + 1] = played[: last + 1 - first]
        now, velocity = played[last - first], (played[-1] - played[-2]) * _FINE_HZ
    made = normalise(out[:count])
    _add_taps(made, events, style)
    _move_trunk(made, events, style)
    _move_head(made, events, style, loudness_db)
    return normalise(convolve1d(made, _SMOOTH, axis=0, mode="nearest")[::FINE])


def _spring(offset: F64, speed: F64, since_s: F64, event: Event) -> F64:
    """(n, 42, 3) what is left of an offset and its velocity, without a jump of either."""
    stiff = _REST_SPRING_HZ if event.rests else _SPRING_HZ
    every = np.full(42, stiff["trunk"])
    for side, bones in ARM_BONES.items():
        # The hand that follows takes its time.
        second = event.unit.hands not in ("both", side)
        every[bones] = stiff["arm"] * (_SECOND_HAND_SLOWER if second else 1.0)
    time, rates = since_s[:, None, None], every[None, :, None]
    first = speed + rates * offset
    third = _EASE * (rates * speed + 0.5 * rates * rates * offset)
    left: F64 = (offset + first * time + third * time * time) * np.exp(-rates * time)
    return left


def _target(event: Event, times_s: F64, style: Style, rest: F32, style_rest: F32) -> F64:
    clip = event.unit.clip
    assert clip is not None
    if event.rests:
        # Idles turn back at their ends: nobody stands still while they are waited out.
        length_s = clip.duration_s
        folded = length_s - np.abs(length_s - np.mod(times_s, 2.0 * length_s))
        idle = clip.at(folded).astype(float)
        idle[:, _BOTH_ARMS] += (style_rest - rest)[_BOTH_ARMS]
        return np.asarray(normalise(idle), dtype=float)
    unit = event.unit
    made = _clip_poses(unit, times_s, style, rest)
    size = style.size * (1.0 + 0.15 * event.effort)
    made[:, HEAD_BONES] = rest[HEAD_BONES] + _HEAD_SHARE * (made - rest)[:, HEAD_BONES]
    made[:, _BOTH_ARMS] = rest[_BOTH_ARMS] + size * (made - rest)[:, _BOTH_ARMS]
    made = normalise(made).astype(float)
    for side, phase in (("left", 0.0), ("right", 0.3)):
        turns = times_s / _FLOAT_S + phase + share(unit.name, "phase")
        size = style.drift * _FLOAT_RAD
        if unit.hands not in ("both", side):
            size *= min(1.0, style.follow)
        arm = made[:, ARM_BONES[side]]
        lifted = pitch(arm, size * np.sin(2.0 * np.pi * turns))
        made[:, ARM_BONES[side]] = yaw(lifted, size * np.cos(2.0 * np.pi * turns))
    return made


def _clip_poses(unit: Unit, times_s: F64, style: Style, rest: F32) -> F64:
    clip = unit.clip
    assert clip is not None

    def at(lag_s: float) -> F32:
        assert clip is not None
        begin = max(unit.start_s, unit.peak_s - PEAK_S / unit.stretch)
        before = unit.peak_s - begin
        wall = [0.0, PEAK_S, PEAK_S + unit.stretch * (unit.end_s - unit.peak_s)]
        inside = [begin, unit.peak_s, unit.end_s]
        wall.append(wall[-1] + max(unit.hold_s - unit.end_s, 1e-3) / _CREEP)
        inside.append(unit.hold_s)
        if before < 0.03:
            wall, inside = wall[1:], inside[1:]
        return clip.at(np.interp(times_s - lag_s, wall, inside))

    made = at(0.0).astype(float)
    if unit.hands != "both":
        other = "right" if unit.hands == "left" else "left"
        bones = ARM_BONES[other]
        # Each gesture's second hand follows in its own measure, always the same.
        follow = style.follow * (0.45 + 0.7 * share(unit.name, "follow"))
        second = mirror(at(_SECOND_HAND_LAG_S)).astype(float)
        made[:, bones] = rest[bones] + follow * (second - rest)[:, bones]
    return made


def _add_taps(made: F32, events: Sequence[Event], style: Style) -> None:
    for event in events:
        if event.unit.clip is not None:
            continue
        first = event.frame * FINE
        part = made[first : first + round(1.5 * _FINE_HZ)]
        since = np.arange(len(part)) / _FINE_HZ / _TAP_S
        curve = -since * since * np.exp(2.0 * (1.0 - since))
        size = _TAP_RAD * style.size * (1.0 + 0.3 * event.effort)
        hands = event.unit.hands
        for side in ("left", "right"):
            own = size if hands in ("both", side) else size * _OTHER_TAP
            bones = _FOREARM_BONES[side]
            part[:, bones] = pitch(part[:, bones], own * curve)


def _move_trunk(made: F32, events: Sequence[Event], style: Style) -> None:
    """Lean forward and to the gesturing side."""
    forward = _follow(made, events, lambda e: style.size * _LEAN_RAD * _lean(e))
    side = _follow(made, events, lambda e: style.size * 0.6 * _LEAN_RAD * _side(e))
    for bones, amount in ((TRUNK_BONES, 1.0), (HEAD_BONES, 0.6)):
        made[:, bones] = roll(pitch(made[:, bones], -amount * forward), amount * side)


def _move_head(made: F32, events: Sequence[Event], style: Style, loudness_db: F64) -> None:
    """Turn to the gesturing side, tilt, glance; nod on movements and with the voice."""
    turn = _follow(made, events, lambda e: _TURN_RAD * _turn(e))
    tilt = _follow(made, events, lambda e: _TILT_RAD * _tilt(e))
    nod = _SPEECH_NOD_RAD_PER_DB * style.nod * loudness_db[: len(made)]
    for event in events:
        if event.rests:
            continue
        first = event.frame * FINE
        since = np.arange(len(made[first : first + round(1.5 * _FINE_HZ)])) / _FINE_HZ / _NOD_S
        size = _NOD_RAD * style.nod * (1.0 + 0.5 * event.effort)
        size *= 0.4 + share(event.unit.name, "nod")
        nod[first : first + len(since)] -= size * since**2 * np.exp(2.0 * (1.0 - since))
    head = made[:, HEAD_BONES]
    made[:, HEAD_BONES] = yaw(roll(pitch(head, nod), style.nod**0.5 * tilt), style.nod**0.5 * turn)


def _side(event: Event) -> float:
    """-1 for what the right hand does, 1 for the left."""
    if event.rests:
        return 0.0
    own = {"left": 1.0, "right": -1.0}.get(event.unit.hands)
    return own if own is not None else 2.0 * share(event.unit.name, "side") - 1.0


def _turn(event: Event) -> float:
    """Where the face turns, -1 (right) to 1: to the gesturing side, or a glance while idle."""
    name = event.unit.name
    if event.rests:
        return {"left": 1.2, "right": -1.2}.get(name.rpartition(":glance_")[2], 0.0)
    return 0.5 * _side(event) + 0.7 * (2.0 * share(name, "turn") - 1.0)


def _tilt(event: Event) -> float:
    return 0.0 if event.rests else 2.0 * share(event.unit.name, "tilt") - 1.0


def _lean(event: Event) -> float:
    return 0.0 if event.rests else share(event.unit.name, "lean")


def _follow(made: F32, events: Sequence[Event], goal: Callable[[Event], float]) -> F64:
    """(n,) a value that springs to the goal of each event in turn. A tap keeps the goal."""
    curve = np.zeros(len(made))
    value = speed = to = 0.0
    bounds = [min(event.frame * FINE, len(made)) for event in events] + [len(made)]
    for at, event in enumerate(events):
        if event.unit.clip is not None:
            to = goal(event)
        time_s = np.arange(bounds[at + 1] - bounds[at] + 1) / _FINE_HZ
        fade = np.exp(-_HEAD_SPRING_HZ * time_s)
        push = speed + _HEAD_SPRING_HZ * (value - to)
        left = (value - to + push * time_s) * fade
        curve[bounds[at] : bounds[at + 1]] = to + left[:-1]
        value = to + float(left[-1])
        speed = float(push * fade[-1] - _HEAD_SPRING_HZ * left[-1])
    return curve


def pitch(directions: F64 | F32, angle_rad: F64) -> F32:
    """Turn (n, bones, 3) about the left-right axis; positive lifts what points forward."""
    return _turned(directions, angle_rad, 1, 2)


def yaw(directions: F64 | F32, angle_rad: F64) -> F32:
    """Turn (n, bones, 3) about the vertical axis; positive turns to the person's left."""
    return _turned(directions, angle_rad, 2, 0)


def roll(directions: F64 | F32, angle_rad: F64) -> F32:
    """Turn (n, bones, 3) about the forward axis; positive tilts to the person's left."""
    return _turned(directions, angle_rad, 0, 1, -1.0)


def _turned(
    directions: F64 | F32, angle_rad: F64, first: int, second: int, sign: float = 1.0
) -> F32:
    cos, sin = np.cos(angle_rad)[:, None], sign * np.sin(angle_rad)[:, None]
    turned = np.array(directions, dtype=np.float32)
    a, b = directions[..., first], directions[..., second]
    turned[..., first] = cos * a + sin * b
    turned[..., second] = cos * b - sin * a
    return turned
