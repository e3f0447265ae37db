"""What keeps an avatar alive under the gestures and in silence: breathing, sway, weight, gaze.

Everything is a function of seed and stream time (``chance``), so it is the same at any frame rate
and never comes back noticeably. Movements with a beginning and an end lie in slots of time, one a
slot, each at a moment of its own inside it, on a minimum-jerk course.

The rates are usual figures for adults at rest: 15 breaths a minute with an exhalation longer than
the inhalation, 16 blinks a minute that close in 80 ms and open in 150 ms, eye movements of 50 ms
which the head follows by a quarter a tenth of a second later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.chance import chance, drift, eased, wander
from ha2g_live.realtime.humanoid import BONE_COUNT, BONE_INDEX
from ha2g_live.realtime.kernel import entry, kernel
from ha2g_live.realtime.legs import plant
from ha2g_live.realtime.rig import (
    CHEST,
    HEAD,
    NECK,
    PROXIMALS,
    SHOULDERS,
    SPINE,
    UPPER_ARMS,
    UPPER_CHEST,
    get,
    put,
)
from ha2g_live.realtime.rotation import from_vector, multiply
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

LISTEN_AFTER_S = 4.0
"""Silence after which the avatar listens."""
LISTEN_IN_S, LISTEN_OUT_S = 1.5, 0.5
"""Time to take to listening, and to leave it."""
_VOICE_UP_S, _VOICE_DOWN_S = 0.10, 0.45  # how the head follows the voice

_DEG = math.pi / 180.0
_HIPS = 0
_EYES = (BONE_INDEX["LeftEye"], BONE_INDEX["RightEye"])
_LEGS = np.array(
    [
        [BONE_INDEX[f"{side}{bone}"] for bone in ("UpperLeg", "LowerLeg", "Foot")]
        for side in ("Left", "Right")
    ]
)


@dataclass(frozen=True, slots=True)
class Attention:
    """Whether the person speaks, as the body takes it.

    Attributes:
        now_s: moment of the last call; NaN before the first.
        quiet_s: how long nothing has been said.
        listening: 0 while the person speaks, 1 in a long silence; moves at an even speed.
        voice: how loud the voice is, 0..1, slower than the sound.
        lift: the same, slower once more, so that it has no corner.
    """

    now_s: float = math.nan
    quiet_s: float = 0.0
    listening: float = 0.0
    voice: float = 0.0
    lift: float = 0.0


@dataclass(frozen=True, slots=True)
class Life:
    """What the layer asks for at one moment.

    Attributes:
        turns: (55, 4) float32 rotations laid over the local ones, in the parent's frame.
        hips_m: (3,) float32 how far the hips are from their rest.
        blink: 0 open, 1 closed.
        gaze_rad: yaw to the avatar's right and pitch down of the eyes and head together.
    """

    turns: F32
    hips_m: F32
    blink: float
    gaze_rad: tuple[float, float]


def attend(state: Attention, now_s: float, speaking: bool, voice: float) -> Attention:
    """The state at ``now_s``.

    Args:
        state: at the frame before.
        now_s: stream time.
        speaking: whether the person speaks.
        voice: how loud, 0..1.
    """
    passed_s = 0.0 if math.isnan(state.now_s) else max(0.0, now_s - state.now_s)
    quiet_s = 0.0 if speaking else state.quiet_s + passed_s
    if quiet_s > LISTEN_AFTER_S:
        listening = min(1.0, state.listening + passed_s / LISTEN_IN_S)
    elif speaking:
        listening = max(0.0, state.listening - passed_s / LISTEN_OUT_S)
    else:
        listening = state.listening
    rising = voice > state.voice
    level = voice + (state.voice - voice) * math.exp(
        -passed_s / (_VOICE_UP_S if rising else _VOICE_DOWN_S)
    )
    lift = level + (state.lift - level) * math.exp(-passed_s / _VOICE_UP_S)
    return replace(state, now_s=now_s, quiet_s=quiet_s, listening=listening, voice=level, lift=lift)


def life_at(now_s: float, seed: int, attention: Attention, amount: float, offsets_m: F32) -> Life:
    """The layer at one moment.

    Args:
        now_s: stream time.
        seed: picks everything that is left to chance.
        attention: whether the person speaks.
        amount: size of all movements; 0 switches them off, blinks included.
        offsets_m: (55, 3) rest position of each bone in its parent's frame, for the legs.
    """
    turns = np.zeros((BONE_COUNT, 4), dtype=np.float32)
    turns[:, 3] = 1.0
    rest = np.zeros(6)
    if amount > 0.0:
        _life(
            float(now_s),
            np.uint64(seed),
            _soft(attention.listening),
            attention.lift,
            float(amount),
            np.array(offsets_m, dtype=np.float64, order="C"),
            turns,
            rest,
        )
    return Life(
        turns=turns,
        hips_m=rest[:3].astype(np.float32),
        blink=float(rest[3]),
        gaze_rad=(float(rest[4]), float(rest[5])),
    )


def apply_life(rotations: F32, life: Life, bones: npt.NDArray[np.bool_]) -> F32:
    """A pose with the layer over it; bones that are not moved stay as they are.

    Args:
        rotations: (55, 4) local unit quaternions.
        life: from ``life_at``.
        bones: (55,) which bones are moved.
    """
    out = np.array(rotations, dtype=np.float32, order="C")
    _apply(out, life.turns, bones)
    return out


def _soft(share: float) -> float:
    s = min(max(share, 0.0), 1.0)
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))


@entry
def _apply(pose: F32, turns: F32, bones: npt.NDArray[np.bool_]) -> None:
    for bone in range(pose.shape[0]):
        if bones[bone]:
            over = get(turns, bone)
            own = get(pose, bone)
            put(pose, bone, multiply(over, own))


@entry
def _life(
    now_s: float,
    seed: np.uint64,
    listening: float,
    voice: float,
    amount: float,
    offsets: F64,
    turns: F32,
    rest: F64,
) -> None:
    breath = _breath(now_s, seed) * amount
    # --- hips: sway and weight
    stance = _stance(now_s, seed, 0) * (1.0 + 0.3 * listening)
    turn = _stance(now_s, seed, 10)
    shift_m = amount * (0.021 * stance + 0.004 * wander(seed, 20, now_s, 5.0))
    rest[0] = shift_m
    rest[2] = amount * 0.005 * wander(seed, 30, now_s, 6.0)
    rest[1] = amount * (-0.006 + 0.0015 * breath) - 0.6 * shift_m * shift_m
    # The weight on one leg lets the other side of the pelvis sink.
    roll = amount * _DEG * (1.6 * stance + 0.3 * wander(seed, 40, now_s, 5.0))
    yaw = amount * _DEG * (3.0 * turn + 0.5 * wander(seed, 50, now_s, 7.0))
    put(turns, _HIPS, from_vector((0.0, yaw, roll)))
    plant(offsets, _LEGS, (rest[0], rest[1], rest[2]), from_vector((0.0, yaw, roll)), turns)

    # --- trunk: the head stays over the feet, the chest breathes
    lean = amount * _DEG * 0.5 * wander(seed, 60, now_s, 5.5)
    side = amount * _DEG * 0.5 * wander(seed, 70, now_s, 4.5)
    back = 0.65 * shift_m / max(offsets[CHEST, 1] + offsets[UPPER_CHEST, 1] + offsets[NECK, 1], 0.2)
    put(turns, SPINE, from_vector((lean, -0.5 * yaw, -0.8 * roll + side + 0.6 * back)))
    put(turns, CHEST, from_vector((-0.5 * _DEG * breath, -0.2 * yaw, -0.2 * roll + 0.4 * back)))
    put(turns, UPPER_CHEST, from_vector((-0.9 * _DEG * breath - 0.4 * lean, 0.0, -0.4 * side)))
    for arm in range(2):
        away = -1.0 if arm == 0 else 1.0
        own = 0.4 * amount * wander(seed, 80 + 10 * arm, now_s, 6.0)
        put(turns, SHOULDERS[arm], from_vector((0.0, 0.0, away * _DEG * (1.1 * breath + own))))
        # The arms hang on: what the chest and shoulders do is taken off them.
        put(
            turns,
            UPPER_ARMS[arm],
            from_vector((1.2 * _DEG * breath, 0.0, -away * _DEG * (1.0 * breath + own))),
        )
        for finger in range(5):
            curl = wander(seed, 200 + 30 * arm + 5 * finger, now_s, 7.0)
            bend = amount * _DEG * 3.0 * curl * (0.4 if finger == 4 else 1.0)
            for joint in range(2):
                put(turns, PROXIMALS[arm, finger] + joint, from_vector((0.0, 0.0, -away * bend)))

    # --- head and eyes
    glance_yaw, glance_pitch, follow_yaw, follow_pitch = _gaze(now_s, seed, listening)
    nod, tilt = _listening_nods(now_s, seed)
    small = 1.0 + 2.4 * voice
    head_yaw = amount * _DEG * 1.6 * small * wander(seed, 100, now_s, 3.2)
    head_pitch = (
        amount
        * _DEG
        * (1.2 * small * wander(seed, 110, now_s, 2.7) + 6.0 * voice + 6.0 * listening * nod)
    )
    head_roll = (
        amount * _DEG * (1.2 * small * wander(seed, 120, now_s, 4.1) + 4.0 * listening * tilt)
    )
    head_roll -= 0.8 * back
    head_yaw += 0.25 * amount * follow_yaw - 0.3 * yaw
    head_pitch += 0.25 * amount * follow_pitch
    # The gaze keeps its place while the chest breathes and leans.
    pitch_back = 1.4 * _DEG * breath - 0.6 * lean
    put(
        turns,
        NECK,
        from_vector((0.45 * head_pitch + pitch_back, 0.45 * head_yaw, 0.45 * head_roll)),
    )
    put(turns, HEAD, from_vector((0.55 * head_pitch, 0.55 * head_yaw, 0.55 * head_roll)))
    # Eyes hold the target against the head's small movements.
    eye_yaw = amount * glance_yaw - head_yaw - 0.3 * yaw
    eye_pitch = amount * glance_pitch - 0.7 * head_pitch
    eye_yaw = min(max(eye_yaw, -25.0 * _DEG), 25.0 * _DEG)
    eye_pitch = min(max(eye_pitch, -15.0 * _DEG), 15.0 * _DEG)
    for eye in _EYES:
        put(turns, eye, from_vector((eye_pitch, eye_yaw, 0.0)))
    rest[3] = min(amount, 1.0) * _blink(now_s, seed)
    rest[4], rest[5] = amount * glance_yaw, amount * glance_pitch


@kernel
def _breath(now_s: float, seed: np.uint64) -> float:
    """How full the chest is, about 0..1."""
    # The pace drifts between about 13 and 17 a minute, slowly enough for phase to rise always.
    phase = 0.25 * now_s + 0.45 * drift(seed, 1, now_s / 24.0) + chance(seed, 2, 0)
    depth = 1.0 + 0.35 * drift(seed, 3, now_s / 11.0)
    t = phase - math.floor(phase)
    full = eased(t / 0.40) if t < 0.40 else 1.0 - eased((t - 0.40) / 0.50)
    return depth * full


@kernel
def _slot_start(seed: np.uint64, channel: int, slot: int, every_s: float, within: float) -> float:
    """When the movement of a slot begins: in the first part of the slot."""
    return every_s * (slot + within * chance(seed, channel, slot))


@kernel
def _stance(now_s: float, seed: np.uint64, channel: int) -> float:
    """Which leg carries the weight, -1..1; a change every 6 to 20 seconds."""
    every_s = 12.5
    slot = math.floor(now_s / every_s)
    start_s = _slot_start(seed, 130 + channel, slot, every_s, 0.6)
    takes_s = 1.4 + 1.1 * chance(seed, 131 + channel, slot)
    before = _stance_of(seed, 132 + channel, slot - 1)
    after = _stance_of(seed, 132 + channel, slot)
    return before + (after - before) * eased((now_s - start_s) / takes_s)


@kernel
def _stance_of(seed: np.uint64, channel: int, slot: int) -> float:
    x = 2.0 * chance(seed, channel, slot) - 1.0
    return math.copysign(0.3 + 0.7 * abs(x), x)


@kernel
def _gaze(now_s: float, seed: np.uint64, listening: float) -> tuple[float, float, float, float]:
    """Yaw and pitch of the eyes' target from the camera, and of that which the head follows.

    Somebody who speaks looks away more often than somebody who listens.
    """
    every_s = 3.4
    slot = math.floor(now_s / every_s)
    if chance(seed, 160, slot) > 0.62 - 0.2 * (1.0 if listening > 0.5 else 0.0):
        return 0.0, 0.0, 0.0, 0.0
    start_s = _slot_start(seed, 161, slot, every_s, 0.35)
    hold_s = 0.35 + 1.1 * chance(seed, 162, slot)
    yaw = _DEG * (2.0 * chance(seed, 163, slot) - 1.0)
    yaw = math.copysign(6.0 * _DEG, yaw) + 10.0 * yaw
    pitch = _DEG * (10.0 * chance(seed, 164, slot) - 4.0)
    passed_s = now_s - start_s
    away = eased(passed_s / 0.05) - eased((passed_s - hold_s) / 0.06)
    follows = eased((passed_s - 0.1) / 0.35) - eased((passed_s - hold_s - 0.1) / 0.4)
    return yaw * away, pitch * away, yaw * follows, pitch * follows


@kernel
def _listening_nods(now_s: float, seed: np.uint64) -> tuple[float, float]:
    """Nod 0..1 and tilt -1..1 of somebody who listens; irregular, every 5 to 12 seconds."""
    every_s = 7.5
    slot = math.floor(now_s / every_s)
    start_s = _slot_start(seed, 170, slot, every_s, 0.6)
    nods = 1 + int(2.0 * chance(seed, 171, slot))
    size = 0.5 + 0.5 * chance(seed, 172, slot)
    nod = 0.0
    for n in range(nods):
        begins_s = now_s - start_s - 0.55 * n
        nod += size * 0.8**n * (eased(begins_s / 0.26) - eased((begins_s - 0.24) / 0.34))
    every_s = 11.0
    slot = math.floor(now_s / every_s)
    start_s = _slot_start(seed, 180, slot, every_s, 0.4)
    hold_s = 1.8 + 2.2 * chance(seed, 181, slot)
    tilt = 2.0 * chance(seed, 182, slot) - 1.0
    passed_s = now_s - start_s
    return nod, tilt * (eased(passed_s / 0.8) - eased((passed_s - 0.8 - hold_s) / 1.0))


@kernel
def _blink(now_s: float, seed: np.uint64) -> float:
    every_s = 4.0
    slot = math.floor(now_s / every_s)
    closed = 0.0
    for back in range(2):
        own = slot - back
        start_s = every_s * (own + 0.88 * chance(seed, 190, own))
        closed = max(closed, _lid(now_s - start_s))
        if chance(seed, 191, own) < 0.15:  # some come in pairs
            closed = max(closed, _lid(now_s - start_s - 0.32))
    return closed


@kernel
def _lid(passed_s: float) -> float:
    return eased(passed_s / 0.08) - eased((passed_s - 0.11) / 0.15)
