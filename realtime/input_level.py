"""Gain and gate of the input, set by hand or by themselves; block sizes make no difference.

Levels are those of frames of 10 ms, counted from the start of the stream. What is done to a frame
follows from the frames before it, so nothing is delayed; a gain moves over the frame to its new
value, so nothing clicks.

``auto``: the room's level is the softest frame of the last seconds, the voice's a slow mean of what
is well above the room. The gate stands between them. The gain brings the voice to ``WANTED_DB``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ha2g_live.realtime.knobs import AUTO, OFF
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

FRAME_SAMPLES = SAMPLE_RATE_HZ // 100
WANTED_DB = -26.0
"""Level of speech, root mean square, that automatic gain aims at."""
GATE_ABOVE_ROOM_DB = 9.0
ROOM_S = 8.0
"""The softest frame of so long a time is the room."""
_MOST_GAIN_DB = 30.0
_GAIN_DB_S = 6.0  # how fast automatic gain moves
_HOLD_FRAMES = 40  # that the gate stays open after the last loud one
_VOICE_ABOVE_ROOM_DB = 15.0
_VOICE_KEPT = 0.995  # of the voice's level, from one loud frame to the next
_SILENT_DB = -100.0
_BUCKETS = 8


@dataclass(frozen=True, slots=True)
class InputState:
    """What is known of the input so far.

    Attributes:
        pending: sum of squares of the frame that is being heard.
        filled: samples of it.
        gain_db: gain applied now.
        open_frames: for how many frames the gate stays open.
        factor: what the newest sample was multiplied by.
        target: what the frame being heard ends with.
        room_db: softest level of each part of the last ``ROOM_S``, the newest last.
        bucket_frames: frames heard in the newest part.
        voice_db: level of the voice; NaN before it was heard.
        level_db: level of the last whole frame, before gain.
    """

    pending: float = 0.0
    filled: int = 0
    gain_db: float = 0.0
    open_frames: int = 0
    factor: float = 1.0
    target: float = 1.0
    room_db: tuple[float, ...] = ()
    bucket_frames: int = 0
    voice_db: float = math.nan
    level_db: float = _SILENT_DB

    @property
    def room(self) -> float:
        """Level of the room, dB."""
        return min(self.room_db, default=_SILENT_DB)


def condition(
    samples: F32, gain_db: float | str, gate_db: float | str, state: InputState
) -> tuple[F32, InputState]:
    """The input with gain and gate.

    Args:
        samples: (n,) float32 at 16 kHz.
        gain_db: the knob.
        gate_db: the knob.
        state: what the call before returned.

    Returns:
        (n,) float32, and the new state.
    """
    if gain_db == 0.0 and gate_db == OFF and state.factor == 1.0 and state.target == 1.0:
        return samples, _measured(samples, state)
    out = np.empty_like(samples)
    start = 0
    while start < len(samples):
        stop = min(len(samples), start + FRAME_SAMPLES - state.filled)
        block = samples[start:stop]
        done = state.filled + np.arange(1, len(block) + 1, dtype=np.float32)
        # The factor at the frame's start is kept until it ends.
        ramp = state.factor + (state.target - state.factor) * done / FRAME_SAMPLES
        out[start:stop] = block * ramp
        state = _heard(block, state)
        if state.filled == 0:
            state = _decide(gain_db, gate_db, state)
        start = stop
    return out, state


def _measured(samples: F32, state: InputState) -> InputState:
    """Levels only, when nothing is to be done."""
    start = 0
    while start < len(samples):
        stop = min(len(samples), start + FRAME_SAMPLES - state.filled)
        state = _heard(samples[start:stop], state)
        start = stop
    return state


def _heard(block: F32, state: InputState) -> InputState:
    pending = state.pending + float(np.dot(block, block))
    filled = state.filled + len(block)
    if filled < FRAME_SAMPLES:
        return replace(state, pending=pending, filled=filled)
    level_db = 10.0 * math.log10(max(pending / FRAME_SAMPLES, 1e-10))
    room = state.room_db or (level_db,)
    frames = state.bucket_frames + 1
    room = (*room[:-1], min(room[-1], level_db))
    if frames >= ROOM_S / _BUCKETS * SAMPLE_RATE_HZ / FRAME_SAMPLES:
        room, frames = (*room[1 - _BUCKETS :], level_db), 0
    voice_db = state.voice_db
    # A digital silence is no room: what follows it is not therefore a voice.
    if level_db > max(min(room), -75.0) + _VOICE_ABOVE_ROOM_DB:
        kept = _VOICE_KEPT if math.isfinite(voice_db) else 0.0
        voice_db = kept * (voice_db if kept else 0.0) + (1.0 - kept) * level_db
    return replace(
        state,
        pending=0.0,
        filled=0,
        room_db=room,
        bucket_frames=frames,
        voice_db=voice_db,
        level_db=level_db,
    )


def _decide(gain_db: float | str, gate_db: float | str, state: InputState) -> InputState:
    """What the next frame is multiplied by at its end."""
    wanted = state.gain_db
    if gain_db == AUTO:
        if math.isfinite(state.voice_db):
            wanted = min(max(WANTED_DB - state.voice_db, -_MOST_GAIN_DB), _MOST_GAIN_DB)
    else:
        wanted = float(gain_db)
    # Gain set by hand is there at once, over one frame.
    most = _GAIN_DB_S * FRAME_SAMPLES / SAMPLE_RATE_HZ if gain_db == AUTO else math.inf
    step = min(max(wanted - state.gain_db, -most), most)
    gain = state.gain_db + step
    threshold_db = -math.inf
    if gate_db == AUTO:
        threshold_db = state.room + GATE_ABOVE_ROOM_DB
    elif gate_db != OFF:
        threshold_db = float(gate_db)
    loud = state.level_db >= threshold_db
    open_frames = _HOLD_FRAMES if loud else max(0, state.open_frames - 1)
    passes = open_frames > 0 or threshold_db == -math.inf
    goal = 10.0 ** (gain / 20.0) if passes else 0.0
    # It closes over a tenth of a second, and opens over one frame.
    target = goal if goal >= state.target else max(goal, 0.6 * state.target)
    if target < 1e-4 and goal == 0.0:
        target = 0.0
    return replace(state, gain_db=gain, open_frames=open_frames, factor=state.target, target=target)
