"""From a recorded clip to the windows worth training on (HA2G, section 4.1; Yoon et al. 2020).

Poses are resampled to 15 a second, windows of 42 are cut every 10, and those that say or show too
little are dropped. A sample is the first 34 poses of its window; the margin only helps to judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.ted import Skeleton
from ha2g_live.realtime.skeleton import normalise
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.spectrogram import SILENCE_DB, column_count
from ha2g_live.training.ha2g.writer import Clip

CUT_FRAMES = 42
CUT_STRIDE_FRAMES = 10
LEAST_WORDS = 2
STATIC_DISTANCE = 0.02
"""Mean distance of a coordinate from the mean pose, in the data's own scale."""
TILT_MAX_DEG, TILT_MEAN_DEG = 30.0, 20.0
WRIST_VARIANCE = 0.0014
"""Variance of a wrist's position over time, summed over the axes, in the data's own scale."""

_CLIP_FPS = (5.0, 130.0)
_COLUMNS_OFF = 2  # makers of spectrograms differ in how they treat the two ends

Word = tuple[str, float, float]
Filter = Callable[[F32, int, Skeleton], bool]


@dataclass(frozen=True)
class RawClip:
    """A clip as it was recorded.

    Attributes:
        speaker: name of the speaker, for TED the id of the video.
        positions: (frames, joints, 3) joint positions, equally spaced over the clip.
        duration_s: time from the first pose to the end of the last.
        words: (word, start, end), in seconds from the clip's start.
        audio: (samples,) mono at 16 kHz; it begins with the first pose.
        spectrogram: (128, columns) dB below the clip's maximum, if the data have one.
    """

    speaker: str
    positions: F32
    duration_s: float
    words: Sequence[Word]
    audio: F32
    spectrogram: npt.NDArray[Any] | None = None


@dataclass
class Tally:
    """What became of a split's clips and windows.

    Attributes:
        clips: clips by what became of them: "kept", or why not.
        windows: windows likewise.
        computed: clips whose spectrogram was computed from the sound: there was none, or it was
            not decibels from -80 to 0 of that length.
    """

    clips: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    computed: int = 0


def too_few_words(positions: F32, words: int, bones: Skeleton) -> bool:
    """Fewer than two words are heard."""
    return words < LEAST_WORDS


def static_pose(positions: F32, words: int, bones: Skeleton) -> bool:
    """The pose stays at the data set's mean pose."""
    return bool(np.abs(positions - bones.mean_pose).mean() < STATIC_DISTANCE)


def tilted_spine(positions: F32, words: int, bones: Skeleton) -> bool:
    """The person leans over, which for a person on video mostly is a fault of the tracker."""
    parent, child = bones.bones[0]
    up = -normalise(positions[:, child] - positions[:, parent])[:, 1]
    tilt_deg = np.degrees(np.arccos(np.clip(up, -1.0, 1.0)))
    return bool(tilt_deg.max() > TILT_MAX_DEG or tilt_deg.mean() > TILT_MEAN_DEG)


def still_wrists(positions: F32, words: int, bones: Skeleton) -> bool:
    """Neither wrist moves."""
    variance = positions[:, list(bones.wrists)].var(axis=0).sum(axis=-1)
    return bool((variance < WRIST_VARIANCE).all())


FILTERS: dict[str, Filter] = {
    "too few words": too_few_words,
    "static pose": static_pose,
    "tilted spine": tilted_spine,
    "still wrists": still_wrists,
}
"""In the order they are asked; a window is counted under the first that drops it."""


def resample_poses(positions: F32, duration_s: float) -> F32:
    """(frames, ...) poses equally spaced over the duration to 15 a second, linearly."""
    count = int(duration_s * POSE_FPS + 1e-6)
    at = np.arange(count) / POSE_FPS * (len(positions) / duration_s)
    before = np.minimum(at.astype(int), len(positions) - 1)
    after = np.minimum(before + 1, len(positions) - 1)
    weight = np.clip(at - before, 0.0, 1.0).reshape(-1, *[1] * (positions.ndim - 1))
    return np.asarray(
        positions[before] * (1.0 - weight) + positions[after] * weight, dtype=np.float32
    )


def cut(
    positions: F32,
    words: Sequence[Word],
    bones: Skeleton,
    windows: Counter[str],
    filters: Mapping[str, Filter] = FILTERS,
) -> list[int]:
    """First frames of the windows that are kept.

    Args:
        positions: (frames, joints, 3) at 15 a second.
        words: of the clip.
        bones: the skeleton.
        windows: counts "kept" and each filter's name.
        filters: what to ask.
    """
    kept = []
    for first in range(0, len(positions) - CUT_FRAMES + 1, CUT_STRIDE_FRAMES):
        begin_s, end_s = first / POSE_FPS, (first + CUT_FRAMES) / POSE_FPS
        heard = sum(end > begin_s and start < end_s for _, start, end in words)
        window = positions[first : first + CUT_FRAMES]
        reason = next(
            (name for name, drops in filters.items() if drops(window, heard, bones)), "kept"
        )
        windows[reason] += 1
        if reason == "kept":
            kept.append(first)
    return kept


def prepare(
    raw: RawClip, bones: Skeleton, tally: Tally, filters: Mapping[str, Filter] = FILTERS
) -> Clip | None:
    """A clip for the data set, or None if nothing of it is kept; ``tally`` says why.

    Raises:
        ValueError: the number of joints is not the skeleton's.
    """
    if raw.positions.shape[1:] != (bones.joint_count, 3):
        raise ValueError(
            f"poses of shape {list(raw.positions.shape[1:])}, "
            f"expected [{bones.joint_count}, 3] for {bones.name}"
        )
    reason = _fault(raw)
    if reason:
        tally.clips[reason] += 1
        return None
    positions = resample_poses(raw.positions, raw.duration_s)
    kept = cut(positions, raw.words, bones, tally.windows, filters)
    if not kept:
        tally.clips["no window kept"] += 1
        return None
    tally.clips["kept"] += 1
    spectrogram = _published_spectrogram(raw)
    tally.computed += spectrogram is None
    return Clip(
        poses=bones.to_poses(positions),
        audio=raw.audio,
        words=[(word.lower(), start) for word, start, _ in raw.words],
        speaker=raw.speaker,
        windows=kept,
        spectrogram=spectrogram,
    )


def _fault(raw: RawClip) -> str:
    if len(raw.positions) == 0 or len(raw.audio) == 0 or raw.duration_s <= 0:
        return "empty"
    if not (np.isfinite(raw.positions).all() and np.isfinite(raw.audio).all()):
        return "not finite"
    if not _CLIP_FPS[0] <= len(raw.positions) / raw.duration_s <= _CLIP_FPS[1]:
        return "impossible frame rate"
    if raw.duration_s * POSE_FPS < CUT_FRAMES:
        return "too short"
    if len(raw.audio) < 0.5 * raw.duration_s * SAMPLE_RATE_HZ:
        return "too little sound"
    return ""


def _published_spectrogram(raw: RawClip) -> npt.NDArray[Any] | None:
    """The clip's own spectrogram, if it is what it should be."""
    found = raw.spectrogram
    if found is None or found.ndim != 2 or found.shape[0] != 128 or found.shape[1] == 0:
        return None
    low, high = float(found.min()), float(found.max())  # NaN fails both comparisons below
    in_range = low >= SILENCE_DB - 0.1 and high <= 0.1 and high > SILENCE_DB / 8
    expected = column_count(len(raw.audio))
    if not in_range or abs(found.shape[1] - expected) > _COLUMNS_OFF:
        return None
    return np.asarray(np.clip(found, SILENCE_DB, 0.0))


def table(tallies: dict[str, Tally]) -> str:
    """The counts of all splits, as lines for a terminal."""
    names = list(tallies)
    lines = [f"{'':32}" + "".join(f"{name:>10}" for name in names)]

    def row(label: str, numbers: list[int]) -> None:
        lines.append(f"{label:32}" + "".join(f"{number:>10,}" for number in numbers))

    for kind in ("clips", "windows"):
        counters: list[Counter[str]] = [getattr(tallies[name], kind) for name in names]
        row(f"{kind} read", [counter.total() for counter in counters])
        order = list(FILTERS) if kind == "windows" else []
        reasons = order + sorted({r for c in counters for r in c} - {*order, "kept"})
        for reason in reasons:
            if any(reason in counter for counter in counters):
                row(f"  dropped: {reason}", [counter[reason] for counter in counters])
        row(f"{kind} kept", [counter["kept"] for counter in counters])
    row("spectrograms computed from sound", [tallies[name].computed for name in names])
    return "\n".join(lines)
