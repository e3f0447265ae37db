"""A whole recording to a whole motion, by the very stages that run live.

The motion is the one a live run shows when nothing is delayed: each output frame is sampled from
the schedule once all sound before it was heard and every step it allows was taken. A window model's
own delay is waited for here, so that motion and sound begin together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ha2g_live.engines.base import Engine
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.joint_limits import limit
from ha2g_live.realtime.retarget import to_directions
from ha2g_live.realtime.schedule import PoseSchedule
from ha2g_live.realtime.skeleton import BONE_COUNT
from ha2g_live.realtime.stepper import advance, initial_state, look, look_due
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32


@dataclass(frozen=True)
class Motion:
    """A finished animation.

    Attributes:
        fps: frames a second.
        directions: (frames, 42, 3) float32 unit vectors, HA2G axes; frame ``i`` is at ``i / fps``.
        samples: (n,) float32 mono at 16 kHz, the sound it goes with; empty where there is none.
        style: speaker style, "" where there is none.
        seed: seed of the gesture choices; None where the motion was not made by a model.
        model: name and version of the model, or where else the motion comes from.
    """

    fps: float
    directions: F32
    samples: F32
    style: str
    seed: int | None
    model: str

    @property
    def duration_s(self) -> float:
        """Length of the motion."""
        return len(self.directions) / self.fps


def animate(
    samples: F32,
    engine: Engine,
    *,
    fps: float = 30.0,
    style: str | None = None,
    seed: int = 0,
    tail_s: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Motion:
    """Run a recording through the model.

    Args:
        samples: (n,) float32 mono at 16 kHz, finite.
        engine: an opened model.
        fps: output frames a second.
        style: a style of the model; its first when left out.
        seed: picks the gestures; the same seed gives the same motion.
        tail_s: silence after the recording, so that the hands come to rest.
        progress: is told frames done and frames in all.

    Raises:
        ConfigError: ``fps``, ``seed`` or ``tail_s`` is out of its range.
        ModelError: the model has no such style.
    """
    if not 1.0 <= fps <= 240.0:
        raise ConfigError(f"fps must be in 1..240, got {fps:g}")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed must be a whole number from 0 to 2^64 - 1, got {seed}")
    if not 0.0 <= tail_s <= 60.0:
        raise ConfigError(f"the tail must be in 0..60 seconds, got {tail_s:g}")
    style = style or engine.spec.usual_style
    state = initial_state(engine.spec, style, seed)
    tail = np.zeros(round(tail_s * SAMPLE_RATE_HZ), dtype=np.float32)
    sound = np.concatenate((samples.astype(np.float32, copy=False), tail))
    delay_s = engine.spec.timing.delay_s
    later = np.zeros(math.ceil(delay_s * SAMPLE_RATE_HZ), dtype=np.float32)
    heard_sound = np.concatenate((sound, later))
    frames = max(1, int(len(sound) / SAMPLE_RATE_HZ * fps))
    directions = np.empty((frames, BONE_COUNT, 3), dtype=np.float32)
    schedule = PoseSchedule()
    heard = 0
    for frame in range(frames):
        until = int((frame / fps + delay_s) * SAMPLE_RATE_HZ)
        chunks, state = advance(engine, heard_sound[heard:until], state)
        heard = until
        if look_due(state):
            chunk, state = look(engine, state)
            chunks.append(chunk)
        for chunk in chunks:
            schedule.merge(chunk)
        directions[frame] = to_directions(limit(schedule.sample(frame / fps).rotations))
        if progress is not None:
            progress(frame + 1, frames)
    return Motion(
        fps=fps,
        directions=directions,
        samples=sound,
        style=style,
        seed=seed,
        model=f"{engine.spec.name} {engine.spec.version}",
    )
