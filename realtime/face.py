"""From lips, blinks and voice to the blends that an avatar's face has, under its own names.

The three sets of names are VRM 1's expressions, VRM 0's blend shapes and ARKit's shapes ("perfect
sync"). A set always has the same names in every frame, so nothing stays behind at its last value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ha2g_live.realtime.mouth import (
    HOP_SAMPLES,
    VISEMES,
    MouthFrames,
    MouthState,
    hear,
    initial_mouth,
)
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

SCHEMES = ("vrm1", "vrm0", "arkit")
FRAME_S = HOP_SAMPLES / SAMPLE_RATE_HZ
KEPT_FRAMES = 400
"""Lips are kept so long, in frames, for motion that is shown later than the sound."""
_STALE_S = 0.15  # without newer sound the mouth closes
_BROW_S, _SMILE_S = 0.12, 0.6
_BROW_SEMITONES = (1.5, 7.0)
_MOST_BROW, _MOST_SMILE = 0.45, 0.22

_VRM0 = {"aa": "A", "ih": "I", "ou": "U", "ee": "E", "oh": "O"}
# Share of each viseme in a shape, aa ih ou ee oh. Jaw and lips of the vowels as phonetics has them.
_ARKIT: dict[str, tuple[float, ...]] = {
    "jawOpen": (0.70, 0.18, 0.15, 0.38, 0.45),
    "mouthFunnel": (0.0, 0.0, 0.35, 0.0, 0.60),
    "mouthPucker": (0.0, 0.0, 0.75, 0.0, 0.20),
    "mouthStretchLeft": (0.05, 0.35, 0.0, 0.25, 0.0),
    "mouthStretchRight": (0.05, 0.35, 0.0, 0.25, 0.0),
    "mouthLowerDownLeft": (0.25, 0.20, 0.0, 0.30, 0.10),
    "mouthLowerDownRight": (0.25, 0.20, 0.0, 0.30, 0.10),
    "mouthUpperUpLeft": (0.15, 0.15, 0.0, 0.18, 0.05),
    "mouthUpperUpRight": (0.15, 0.15, 0.0, 0.18, 0.05),
}


class Lips:
    """Hears sound and tells the mouth at any of the last moments.

    Threads: one.
    """

    def __init__(self) -> None:
        self.heard_samples = 0
        self._state: MouthState = initial_mouth()
        self._rows = np.zeros((KEPT_FRAMES, len(VISEMES) + 4), dtype=np.float32)
        self._count = 0

    def hear(self, samples: F32) -> None:
        """Take in (n,) float32 samples at 16 kHz."""
        self.heard_samples += len(samples)
        frames, self._state = hear(samples, self._state)
        self._keep(frames)

    def skip_to(self, sample: int) -> None:
        """Begin anew at a sample of the stream; what lies before was not heard."""
        self.heard_samples = sample - sample % HOP_SAMPLES
        self._state = initial_mouth()
        self._count = self.heard_samples // HOP_SAMPLES
        self._rows[:] = 0.0

    def at(self, stream_s: float) -> F32:
        """(9,) five visemes, openness, speech, level, pitch; of silence where nothing is known."""
        place = stream_s / FRAME_S - 1.0  # frame n is known when its last sample was heard
        newest = self._count - 1
        if newest < 0 or place < max(0, self._count - KEPT_FRAMES):
            return np.zeros(self._rows.shape[1], dtype=np.float32)
        left = min(math.floor(place), newest)
        right = min(left + 1, newest)
        share = np.float32(min(max(place - left, 0.0), 1.0))
        row = (1 - share) * self._rows[left % KEPT_FRAMES] + share * self._rows[right % KEPT_FRAMES]
        late_s = (place - newest) * FRAME_S
        return np.asarray(row * np.float32(min(max(2.0 - late_s / _STALE_S, 0.0), 1.0)))

    def _keep(self, frames: MouthFrames) -> None:
        columns = (frames.open, frames.speech, frames.level, frames.pitch)
        rows = np.column_stack((frames.visemes, *columns))[-KEPT_FRAMES:]
        first = self._count + len(frames.open) - len(rows)
        self._rows[np.arange(first, first + len(rows)) % KEPT_FRAMES] = rows
        self._count += len(frames.open)


@dataclass(frozen=True, slots=True)
class FaceState:
    """What the face remembers.

    Attributes:
        now_s: moment of the last frame; NaN before the first.
        brow: how far the brows are raised.
        smile: how much it smiles.
    """

    now_s: float = math.nan
    brow: float = 0.0
    smile: float = 0.0


def names(scheme: str, face: str) -> tuple[str, ...]:
    """The blends of a set of names at a setting of the ``face`` knob."""
    if face == "none":
        return ()
    return tuple(blends(scheme, face, np.zeros(9, dtype=np.float32), 0.0, FaceState()))


def advance(state: FaceState, now_s: float, lips: F32) -> FaceState:
    """Brows follow the pitch of the voice, the smile its liveliness.

    Args:
        state: at the frame before.
        now_s: moment of this frame.
        lips: (9,) from ``Lips.at``.
    """
    passed_s = 0.0 if math.isnan(state.now_s) else max(0.0, now_s - state.now_s)
    speech, level, pitch = (float(value) for value in lips[6:9])
    low, high = _BROW_SEMITONES
    brow = _MOST_BROW * speech * min(max((pitch - low) / (high - low), 0.0), 1.0)
    smile = _MOST_SMILE * min(1.0, 0.4 + 0.6 * speech * level)
    return FaceState(
        now_s=now_s,
        brow=brow + (state.brow - brow) * math.exp(-passed_s / _BROW_S),
        smile=smile + (state.smile - smile) * math.exp(-passed_s / _SMILE_S),
    )


def blends(scheme: str, face: str, lips: F32, blink: float, state: FaceState) -> dict[str, float]:
    """The blends of one frame, each 0..1.

    Args:
        scheme: one of ``SCHEMES``.
        face: "none", "mouth" or "full".
        lips: (9,) from ``Lips.at``.
        blink: 0 open, 1 closed.
        state: brows and smile.
    """
    if face == "none":
        return {}
    visemes = [min(max(float(value), 0.0), 1.0) for value in lips[: len(VISEMES)]]
    out: dict[str, float] = {}
    if scheme == "arkit":
        for name, shares in _ARKIT.items():
            out[name] = min(1.0, sum(s * v for s, v in zip(shares, visemes, strict=True)))
        if face == "full":
            out |= {
                "mouthSmileLeft": state.smile,
                "mouthSmileRight": state.smile,
                "eyeBlinkLeft": blink,
                "eyeBlinkRight": blink,
                "browInnerUp": state.brow,
                "browOuterUpLeft": 0.7 * state.brow,
                "browOuterUpRight": 0.7 * state.brow,
            }
        return out
    old = scheme == "vrm0"
    for name, value in zip(VISEMES, visemes, strict=True):
        out[_VRM0[name] if old else name] = value
    if face == "full":
        out["Blink" if old else "blink"] = blink
        # A smile widens the lips: while the mouth is open there is less of it.
        out["Joy" if old else "happy"] = state.smile * (1.0 - 0.6 * float(lips[5]))
    return out


def scheme_for(kind: str, asked: str | None = None) -> str:
    """The set of names to use: as asked, else the avatar's own; without one VRM 0's."""
    return asked or ("vrm1" if kind == "vrm1" else "vrm0")


def check_names(known: Sequence[str], scheme: str, face: str) -> tuple[str, ...]:
    """Blends that an avatar with the shapes ``known`` does not have, in any case of letters."""
    lower = {name.lower() for name in known}
    return tuple(name for name in names(scheme, face) if name.lower() not in lower)
