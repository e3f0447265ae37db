"""Places gesture clips on speech: the choice of gesture at every pose frame, and the poses.

Everything a movement follows from has been *heard* by then, because a causal network has to learn
it: the first sound of a phrase raises the hands, a prominent syllable lets the prepared stroke
go, so that its emphasis lands ``STROKE_LAG_S`` after the syllable's peak, a stroke is held while
the speech runs on, further peaks carry small beats, the next gesture grows out of the held one,
and after a silence the hands go back to rest. *Which* gesture is drawn by chance: the network is
told (``choice``), and learns how likely each is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from ha2g_live.realtime.skeleton import JOINT_NAMES, bone_index, normalise
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.catalogue import Catalogue
from ha2g_live.training.clips import Clip, mirror
from ha2g_live.training.prosody import Peak, Prosody

STROKE_LAG_S = 0.15
_ONSET_LAG_S = (0.06, 0.12)  # from the first sound to the first movement
_LONGEST_WAIT_S = 0.6
_BLEND_S = 0.5
_REST_BLEND_S = 1.0
_SILENCE_BEFORE_REST_S = 0.5
_CREEP = 0.12  # held hands are never quite still: speed of the clip during a hold
_SOFTEN_FRAMES = 0.7
_FOLLOW = 0.45  # how far the second hand follows a one-handed gesture
_BEAT_S = 0.45
_BEAT_RAD = 0.22
_NOD_S = 0.5
_NOD_RAD = 0.07

_AXIS_X = 0
_HEAD_BONES = [
    bone_index("neck", "nose"),
    bone_index("nose", "right_eye"),
    bone_index("nose", "left_eye"),
    bone_index("right_eye", "right_ear"),
    bone_index("left_eye", "left_ear"),
]


@dataclass(frozen=True, slots=True)
class Style:
    """How a speaker gestures.

    Attributes:
        name: speaker style of the model.
        gesture_s: typical seconds from one gesture's emphasis to the next gesture.
        start: chance that the first sound of a phrase raises the hands at once.
        size: size of the movements, 1 = as recorded.
        both: weight of two-handed gestures against one-handed.
        left: share of the left hand in one-handed gestures.
        nod: size of the head's nods on peaks.
    """

    name: str
    gesture_s: float
    start: float
    size: float
    both: float
    left: float
    nod: float


STYLES = (
    Style("calm", gesture_s=1.6, start=0.7, size=0.8, both=0.5, left=0.4, nod=0.7),
    Style("balanced", gesture_s=0.7, start=0.95, size=1.0, both=0.65, left=0.5, nod=1.0),
    Style("lively", gesture_s=0.25, start=1.0, size=1.1, both=0.8, left=0.5, nod=1.4),
    Style("presenter", gesture_s=0.6, start=1.0, size=1.05, both=0.45, left=0.2, nod=0.9),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the network learns from one recording.

    Attributes:
        choice: (frames,) int16 gesture being made, an index of the catalogue.
        age: (frames,) int32 pose frames since it was chosen; 0 marks the choice.
        directions: (frames, 42, 3) float32.
    """

    choice: npt.NDArray[np.int16]
    age: npt.NDArray[np.int32]
    directions: F32


@dataclass(slots=True)
class _Segment:
    """One clip on the time line: wall seconds against clip seconds, piecewise linear."""

    choice: int
    start_s: float
    wall_s: list[float]
    clip_s: list[float]
    over_s: float
    blend_s: float
    rest: bool


def plan(prosody: Prosody, frames: int, style: Style, catalogue: Catalogue, seed: int) -> Plan:
    """Gesture to a recording of ``frames`` pose frames (15 Hz)."""
    rng = np.random.default_rng(seed)
    segments, beats = _time_line(prosody, frames / POSE_FPS, style, catalogue, rng)
    times_s = np.arange(frames) / POSE_FPS
    choice = np.zeros(frames, dtype=np.int16)
    age = np.zeros(frames, dtype=np.int32)
    directions = np.zeros((frames, 42, 3), dtype=np.float32)
    for segment in segments:
        first = round(segment.start_s * POSE_FPS)
        choice[first:] = segment.choice
        age[first:] = np.arange(max(0, frames - first))
        poses = _poses(segment, times_s[first:], style, catalogue)
        share = _smooth((times_s[first:] - segment.start_s) / segment.blend_s)[:, None, None]
        if first == 0:
            share = np.ones_like(share)
        directions[first:] = normalise((1 - share) * directions[first:] + share * poses)
    # Clips are sped up, held and released at sharp corners of time; hands have mass.
    directions = normalise(gaussian_filter1d(directions, _SOFTEN_FRAMES, axis=0, mode="nearest"))
    _add_beats(directions, times_s, beats)
    _add_nods(directions, times_s, prosody.peaks, style)
    return Plan(choice, age, directions)


def _time_line(
    prosody: Prosody,
    duration_s: float,
    style: Style,
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> tuple[list[_Segment], list[tuple[float, float]]]:
    segments = [_idle(0.0, catalogue, rng)]
    beats: list[tuple[float, float]] = []
    for at, (start_s, end_s) in enumerate(prosody.phrases):
        next_s = prosody.phrases[at + 1][0] if at + 1 < len(prosody.phrases) else duration_s
        _idle_until(segments, start_s, catalogue, rng)
        peaks = [p for p in prosody.peaks if start_s <= p.time_s <= end_s]
        _phrase(segments, beats, peaks, start_s, end_s, style, catalogue, rng)
        rest_s = end_s + _SILENCE_BEFORE_REST_S
        if next_s > rest_s + 0.2 and not segments[-1].rest:
            segments.append(
                _idle(_frame_time(max(rest_s, segments[-1].start_s + 0.3)), catalogue, rng)
            )
    _idle_until(segments, duration_s, catalogue, rng)
    return segments, beats


def _phrase(
    segments: list[_Segment],
    beats: list[tuple[float, float]],
    peaks: list[Peak],
    start_s: float,
    end_s: float,
    style: Style,
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> None:
    """Gestures of one phrase, appended to the time line."""
    free_s = start_s
    if not segments[-1].rest:
        free_s = max(free_s, segments[-1].over_s)
    elif end_s - start_s > 0.5 and rng.random() < style.start:
        trigger_s = start_s + rng.uniform(*_ONSET_LAG_S)
        free_s = _gesture(segments, trigger_s, peaks, style, catalogue, rng)
    pause_s = rng.exponential(style.gesture_s)
    for peak in peaks:
        if peak.time_s < free_s:
            continue
        if peak.time_s >= free_s + pause_s and end_s - peak.time_s > 0.4:
            trigger_s = peak.time_s + rng.uniform(*_ONSET_LAG_S)
            free_s = _gesture(segments, trigger_s, peaks, style, catalogue, rng)
            pause_s = rng.exponential(style.gesture_s)
        elif not segments[-1].rest:
            size = _BEAT_RAD * style.size * float(np.clip(1.0 + 0.4 * peak.strength, 0.5, 2.0))
            beats.append((peak.time_s + STROKE_LAG_S, size))


def _gesture(
    segments: list[_Segment],
    trigger_s: float,
    peaks: list[Peak],
    style: Style,
    catalogue: Catalogue,
    rng: np.random.Generator,
) -> float:
    """Append a gesture; returns when its stroke is over."""
    trigger_s = _frame_time(max(trigger_s, segments[-1].start_s + 0.2))
    choice = catalogue.draw(style.both, style.left, rng)
    times = catalogue.clips[choice].times
    assert times is not None
    begin = times.start_s if segments[-1].rest else times.chain_s
    flick_s = times.emphasis_s - times.ready_s
    prepared_s = trigger_s + float(np.clip(times.ready_s - begin, 0.45, 0.75))
    emphasis_s = prepared_s + flick_s
    for peak in peaks:
        if 0.0 <= peak.time_s + STROKE_LAG_S - emphasis_s <= _LONGEST_WAIT_S:
            emphasis_s = peak.time_s + STROKE_LAG_S
            break
    over_s = emphasis_s + float(np.clip(times.stroke_end_s - times.emphasis_s, 0.2, 0.6))
    hold_s = (times.relax_s - times.stroke_end_s) / _CREEP
    # Between prepared and the flick the hands wait, prepared, for the peak.
    wall = [trigger_s, prepared_s, emphasis_s - flick_s, emphasis_s, over_s, over_s + hold_s]
    clip = [
        begin,
        times.ready_s,
        times.ready_s,
        times.emphasis_s,
        times.stroke_end_s,
        times.relax_s,
    ]
    segments.append(_Segment(choice, trigger_s, wall, clip, over_s, _BLEND_S, rest=False))
    return over_s


def _idle(start_s: float, catalogue: Catalogue, rng: np.random.Generator) -> _Segment:
    choice = catalogue.draw_idle(rng)
    length_s = catalogue.clips[choice].duration_s
    over_s = start_s + length_s
    return _Segment(
        choice, start_s, [start_s, over_s], [0.0, length_s], over_s, _REST_BLEND_S, rest=True
    )


def _idle_until(
    segments: list[_Segment], end_s: float, catalogue: Catalogue, rng: np.random.Generator
) -> None:
    """While at rest, another idle clip follows shortly before the last one ends."""
    while segments[-1].rest and segments[-1].over_s - _REST_BLEND_S < end_s:
        start_s = _frame_time(segments[-1].over_s - _REST_BLEND_S)
        segments.append(_idle(start_s, catalogue, rng))


def _poses(
    segment: _Segment, times_s: npt.NDArray[np.float64], style: Style, catalogue: Catalogue
) -> F32:
    clip = catalogue.clips[segment.choice]
    poses = clip.at(np.interp(times_s, segment.wall_s, segment.clip_s))
    if segment.rest:
        return poses
    if clip.hands != "both":
        poses = _let_other_follow(poses, clip)
    return normalise(catalogue.rest + style.size * (poses - catalogue.rest))


def _let_other_follow(poses: F32, clip: Clip) -> F32:
    other = "right_" if clip.hands == "left" else "left_"
    bones = _ARM_BONES[other]
    followed = np.array(poses)
    followed[:, bones] = normalise(
        (1 - _FOLLOW) * poses[:, bones] + _FOLLOW * mirror(poses)[:, bones]
    )
    return followed


def _arm_bones(side: str) -> list[int]:
    from ha2g_live.realtime.skeleton import BONES

    names = [JOINT_NAMES[child] for _, child in BONES]
    return [
        i
        for i, name in enumerate(names)
        if name.startswith(side) and not name.endswith(("shoulder", "eye", "ear"))
    ]


_ARM_BONES = {side: _arm_bones(side) for side in ("left_", "right_")}
_FOREARM_BONES = [
    bone
    for side in ("left_", "right_")
    for bone in _ARM_BONES[side]
    if bone != bone_index(f"{side}shoulder", f"{side}elbow")
]


def _add_beats(
    directions: F32, times_s: npt.NDArray[np.float64], beats: list[tuple[float, float]]
) -> None:
    """Small flicks of both forearms, down and back, for peaks that carry no gesture."""
    angle = np.zeros(len(times_s))
    for at_s, size in beats:
        phase = (times_s - at_s) / _BEAT_S + 0.5
        inside = (phase > 0) & (phase < 1)
        # Up a little before the beat, down on it, and back: one sine, strongest in its middle.
        angle[inside] += (
            size * np.sin(np.pi * phase[inside]) ** 2 * np.cos(2 * np.pi * phase[inside])
        )
    directions[:, _FOREARM_BONES] = _pitch(directions[:, _FOREARM_BONES], angle)


def _add_nods(
    directions: F32, times_s: npt.NDArray[np.float64], peaks: tuple[Peak, ...], style: Style
) -> None:
    angle = np.zeros(len(times_s))
    for peak in peaks:
        size = _NOD_RAD * style.nod * float(np.clip(0.7 + 0.4 * peak.strength, 0.1, 1.6))
        phase = (times_s - peak.time_s - STROKE_LAG_S) / _NOD_S + 0.5
        inside = (phase > 0) & (phase < 1)
        angle[inside] -= size * np.sin(np.pi * phase[inside]) ** 2
    directions[:, _HEAD_BONES] = _pitch(directions[:, _HEAD_BONES], angle)


def _pitch(directions: F32, angle_rad: npt.NDArray[np.float64]) -> F32:
    """Turn (frames, bones, 3) about the left-right axis; positive lifts what points forward."""
    cos, sin = np.cos(angle_rad)[:, None], np.sin(angle_rad)[:, None]
    y, z = directions[..., 1], directions[..., 2]
    turned = (directions[..., _AXIS_X], cos * y + sin * z, cos * z - sin * y)
    return np.asarray(np.stack(turned, axis=-1), dtype=np.float32)


def _smooth(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Minimum-jerk rise from 0 to 1."""
    x = np.clip(share, 0.0, 1.0)
    return np.asarray(x**3 * (10.0 - 15.0 * x + 6.0 * x**2))


def _frame_time(time_s: float) -> float:
    """The next pose frame's time: choices are made on pose frames."""
    return float(np.ceil(time_s * POSE_FPS - 1e-6) / POSE_FPS)
