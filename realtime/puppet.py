"""From the model's pose to the avatar's: every stage between the schedule and the wire, in order.

    smooth ─> shape (knobs) ─> fade (changes) ─> life ─> joint limits ─> the avatar's own body

One frame is a pure function of the model's pose, the moment, the knobs and the state; nothing here
knows of threads, clocks or targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.avatar import Avatar
from ha2g_live.realtime.body import Figure
from ha2g_live.realtime.contact import DEFAULT_FIGURE, Sides, adapt, no_sides
from ha2g_live.realtime.humanoid import BONE_COUNT
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.knobs import Knobs
from ha2g_live.realtime.life import Attention, apply_life, attend, life_at
from ha2g_live.realtime.shaping import moving_bones, shape_of, shaped
from ha2g_live.realtime.transition import Fade, fade_from, faded, no_fade, smoothed
from ha2g_live.realtime.types import F32

SLEW_S = 0.8
"""Time in which the ``life`` and ``smooth`` knobs go from 0 to 1."""


@dataclass(frozen=True, slots=True)
class PuppetState:
    """What one stream's avatar remembers from frame to frame.

    Attributes:
        now_s: stream time of the last frame; NaN before the first.
        passed_s: time from the frame before to that one.
        knobs: where the knobs stood.
        smooth: (2, 55, 4) what both filters of the ``smooth`` knob showed.
        asked: (2, 55, 4) the model's pose after smoothing, at the last frame and the one before.
        shown: (2, 55, 4) what was shown for them, before life.
        fade: what is left of the last change.
        life: size of the life layer, which follows its knob.
        smoothing: strength of the filters, which follows its knob.
        attention: whether somebody speaks.
        sides: which side of each other the arms are on.
    """

    now_s: float
    passed_s: float
    knobs: Knobs
    smooth: F32
    asked: F32
    shown: F32
    fade: Fade
    life: float
    smoothing: float
    attention: Attention
    sides: Sides


@dataclass(frozen=True, slots=True)
class Moved:
    """One frame of the avatar.

    Attributes:
        rotations: (55, 4) float32 local unit quaternions.
        hips_m: (3,) float32 local position of the hips.
        bones: (55,) which bones are moved; others are at rest and not sent to avatar programs.
        blink: 0 open, 1 closed eyes.
    """

    rotations: F32
    hips_m: F32
    bones: npt.NDArray[np.bool_]
    blink: float


def initial_puppet(knobs: Knobs) -> PuppetState:
    """Before the first frame."""
    nothing = np.zeros((2, BONE_COUNT, 4), dtype=np.float32)
    nothing[..., 3] = 1.0
    return PuppetState(
        now_s=math.nan,
        passed_s=0.0,
        knobs=knobs,
        smooth=nothing,
        asked=nothing,
        shown=nothing,
        fade=no_fade(),
        life=knobs.life,
        smoothing=knobs.smooth,
        attention=Attention(),
        sides=no_sides(),
    )


def move(
    rotations: F32,
    now_s: float,
    speaking: bool,
    voice: float,
    knobs: Knobs,
    seed: int,
    avatar: Avatar,
    figure: Figure,
    state: PuppetState,
) -> tuple[Moved, PuppetState]:
    """One frame.

    Args:
        rotations: (55, 4) the model's pose on the default skeleton.
        now_s: stream time; not before that of the last frame.
        speaking: whether the person speaks just now.
        voice: how loud the voice is against how it usually is, 0..1.
        knobs: where the knobs stand.
        seed: picks glances, blinks and all else that is left to chance.
        avatar: whose body it is.
        figure: its volumes.
        state: from the frame before.
    """
    first = math.isnan(state.now_s)
    passed_s = 0.0 if first else now_s - state.now_s
    smoothing = _slewed(state.smoothing, knobs.smooth, passed_s)
    asked, filters = smoothed(rotations, state.smooth, 0.0 if first else smoothing, passed_s)
    shape = shape_of(knobs)
    fade = state.fade
    if not first and shape is not shape_of(state.knobs) and state.passed_s > 0.0:
        new = [shaped(pose, shape) for pose in state.asked]
        fade = fade_from(
            state.shown[0],
            state.shown[1],
            new[0],
            new[1],
            state.now_s,
            state.passed_s,
        )
    shown = faded(shaped(asked, shape), fade, now_s)

    amount = _slewed(state.life, knobs.life, passed_s)
    attention = attend(state.attention, now_s, speaking, voice)
    life = life_at(now_s, seed, attention, amount, avatar.offsets_m)
    bones = moving_bones(knobs.parts)
    posed = limit(apply_life(shown, life, bones))
    posed, sides = adapt(posed, figure, state.sides, passed_s, DEFAULT_FIGURE)
    hips_m = avatar.offsets_m[0] + (life.hips_m if bones[0] else np.float32(0.0))
    moved = Moved(avatar.fold(posed), hips_m, bones, life.blink)
    again = first or passed_s <= 0.0
    return moved, replace(
        state,
        now_s=now_s,
        passed_s=state.passed_s if again and not first else passed_s,
        knobs=knobs,
        smooth=filters,
        asked=np.stack((asked, asked if again else state.asked[0])),
        shown=np.stack((shown, shown if again else state.shown[0])),
        fade=fade,
        life=amount,
        smoothing=smoothing,
        attention=attention,
        sides=sides,
    )


def _slewed(now: float, wanted: float, passed_s: float) -> float:
    """A knob's value on its way to where it was turned."""
    step = passed_s / SLEW_S
    return now + min(max(wanted - now, -step), step)


def warm_up_puppet(rotations: F32, avatar: Avatar, figure: Figure) -> None:
    """Compile all that a turn of a knob could need, so that no frame of a run waits for it."""
    knobs = Knobs()
    state = initial_puppet(knobs)
    turned = replace(knobs, intensity=1.5, mirror=True, smooth=0.5, rest_pose="front")
    for step, stand in enumerate((knobs, knobs, knobs, turned, turned)):
        _, state = move(rotations, step / 60, True, 0.5, stand, 0, avatar, figure, state)
