"""Made-up recordings in the published format: people whose hands stop on the beats of their speech.

    python -m ha2g_live.training.ha2g.example OUT --skeleton ted_expressive --videos 4

The sound is a train of bursts with the timbre of vowels, 0.35 to 1.1 s apart. From each burst to
the next the arms, hands, fingers, head and torso swing to a new place and come to a stop there,
the farther the louder the burst. How far, how high and with which hand is each speaker's own.
Nothing in it is anybody's recording, and the same seed gives the same numbers.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.engines.ted import NAMES, Skeleton, skeleton
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.options import Parser, say
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.dataset import SPLITS
from ha2g_live.training.ha2g.kinematics import F64, rotation_matrices
from ha2g_live.training.ha2g.legacy import LegacyError, legacy_python, write_records
from ha2g_live.training.ha2g.spectrogram import clip_decibels
from ha2g_live.training.ha2g.windows import RawClip, Tally, Word, prepare
from ha2g_live.training.ha2g.writer import DataSetWriter

FPS = 25
"""Poses a second of the recordings; the data set is resampled to 15."""
FAULTS = ("too few words", "static pose", "tilted spine", "still wrists")
"""A clip for each filter of ``windows.FILTERS``, which only that filter drops."""
FAULT_SECONDS = 4.0
FAULT_SPEAKER = "faults"
LEAST_SECONDS = 3.0

_GAP_S = (0.35, 1.1)
_BURST_S = (0.12, 0.26)
_NOISE = 5e-4
_VOWELS_HZ = ((700, 1200, 2500), (350, 2000, 2800), (450, 900, 2400), (550, 1700, 2500))
_VOCABULARY = ("and", "so", "this", "people", "very", "we", "think", "about", "story", "now")


@dataclass(frozen=True)
class _Style:
    """What is a speaker's own: how far, how high, which hand, which voice."""

    reach: float
    height_rad: float
    hands: tuple[float, float]
    voice_hz: float


@dataclass(frozen=True)
class _Limbs:
    """Bones by what moves them, one side and the other, and how far the arms stand off the body."""

    upper: tuple[int, int]
    fore: tuple[int, int]
    hand: tuple[tuple[int, ...], tuple[int, ...]]
    finger: tuple[tuple[int, ...], tuple[int, ...]]
    head: tuple[int, ...]
    stance_rad: float


_LIMBS = {
    "ted_expressive": _Limbs(
        upper=(3, 20),
        fore=(4, 21),
        hand=((5, 8, 11, 14, 17), (22, 25, 28, 31, 34)),
        finger=((6, 7, 9, 10, 12, 13, 15, 16, 18, 19), (23, 24, 26, 27, 29, 30, 32, 33, 35, 36)),
        head=(37,),
        stance_rad=0.25,
    ),
    "ted_gesture": _Limbs(
        upper=(4, 7), fore=(5, 8), hand=((), ()), finger=((), ()), head=(1, 2), stance_rad=0.6
    ),
}


def example_clips(
    name: str = "ted_expressive", videos: int = 4, seconds: float = 12.0, seed: int = 0
) -> dict[str, list[RawClip]]:
    """The recordings of every split: train has ``videos`` speakers, val and test some of them.

    Args:
        name: skeleton, one of ``ted.NAMES``.
        videos: recordings in the training split, each of a speaker of their own.
        seconds: length of each.
        seed: another gives other recordings.

    Raises:
        ConfigError: a setting is out of its range.
    """
    bones = skeleton(name)
    if videos < 1:
        raise ConfigError(f"--videos must be at least 1, got {videos}")
    if not seconds >= LEAST_SECONDS:
        raise ConfigError(f"--seconds must be at least {LEAST_SECONDS:g}, got {seconds:g}")
    few = max(1, videos // 4)
    clips: dict[str, list[RawClip]] = {}
    for split, count in zip(SPLITS, (videos, few, few), strict=True):
        clips[split] = []
        for video in range(count):
            style = _style(np.random.default_rng((seed, zlib.crc32(b"style"), video)))
            rng = np.random.default_rng((seed, zlib.crc32(f"{name} {split}".encode()), video))
            clips[split].append(_recording(bones, style, f"speaker{video:03}", seconds, rng))
        rng = np.random.default_rng((seed, zlib.crc32(f"{name} {split} faults".encode())))
        clips[split] += [_faulty(bones, fault, rng) for fault in FAULTS]
    return clips


def write_example(
    path: Path,
    name: str = "ted_expressive",
    videos: int = 4,
    seconds: float = 12.0,
    seed: int = 0,
) -> dict[str, Tally]:
    """The same recordings written as a data set in the open format, without LMDB on the way."""
    bones = skeleton(name)
    tallies = {split: Tally() for split in SPLITS}
    with DataSetWriter(path, bones, f"made-up recordings, seed {seed}") as writer:
        for split, clips in example_clips(name, videos, seconds, seed).items():
            for raw in clips:
                clip = prepare(as_published(raw), bones, tallies[split])
                if clip is not None:
                    writer.add(split, clip)
    return tallies


def write_lmdb(
    path: Path,
    python: Path,
    name: str = "ted_expressive",
    videos: int = 4,
    seconds: float = 12.0,
    seed: int = 0,
) -> None:
    """The same recordings as published LMDB folders: ``path``/train, val, test.

    Args:
        path: folder to make.
        python: an interpreter with an old pyarrow, from ``legacy.legacy_python``.
        name: skeleton, one of ``ted.NAMES``.
        videos: recordings in the training split.
        seconds: length of each.
        seed: another gives other recordings.

    Raises:
        LegacyError: it cannot be written.
    """
    if path.exists():
        raise LegacyError(f"{path} exists already: choose another folder, or remove it first")
    for split, clips in example_clips(name, videos, seconds, seed).items():
        write_records(python, path / split, _messages(name, clips))


def as_published(raw: RawClip) -> RawClip:
    """The clip with sound and spectrogram rounded as the published records have them."""
    audio = raw.audio.astype(np.float16).astype(np.float32)
    return replace(raw, audio=audio, spectrogram=clip_decibels(audio).astype(np.float16))


def _messages(name: str, clips: list[RawClip]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for number, raw in enumerate(map(as_published, clips)):
        start_s = 10.0 + number
        header = {
            "kind": "clip",
            "vid": raw.speaker,
            "skeleton": name,
            "words": [list(word) for word in raw.words],
            "times_s": [start_s, start_s + raw.duration_s],
        }
        arrays = {
            "positions": raw.positions,
            "audio": raw.audio,
            "spectrogram": raw.spectrogram,
        }
        yield header, arrays
        following = clips[number + 1].speaker if number + 1 < len(clips) else None
        if following != raw.speaker:
            yield {"kind": "record"}, {}


# --- one recording


def _style(rng: np.random.Generator) -> _Style:
    hands = ((1.0, 0.45), (0.45, 1.0), (1.0, 1.0))[int(rng.integers(3))]
    return _Style(
        reach=float(rng.uniform(0.8, 1.3)),
        height_rad=float(rng.uniform(0.25, 0.55)),
        hands=hands,
        voice_hz=float(rng.uniform(95.0, 220.0)),
    )


def _recording(
    bones: Skeleton, style: _Style, speaker: str, seconds: float, rng: np.random.Generator
) -> RawClip:
    onsets_s, loudness = _beats(seconds, rng)
    words: list[Word] = [
        (str(rng.choice(_VOCABULARY)), float(onset), float(onset) + 0.3) for onset in onsets_s
    ]
    return RawClip(
        speaker=speaker,
        positions=_motion(bones, style, seconds, onsets_s, loudness),
        duration_s=round(seconds * FPS) / FPS,
        words=words,
        audio=_speech(style, seconds, onsets_s, loudness, rng),
    )


def _beats(seconds: float, rng: np.random.Generator) -> tuple[F64, F64]:
    onsets_s = [float(rng.uniform(0.2, 0.5))]
    while (following := onsets_s[-1] + float(rng.uniform(*_GAP_S))) < seconds - _BURST_S[1]:
        onsets_s.append(following)
    return np.array(onsets_s), rng.uniform(0.4, 1.0, len(onsets_s))


def _speech(
    style: _Style, seconds: float, onsets_s: F64, loudness: F64, rng: np.random.Generator
) -> F32:
    sound = _NOISE * rng.standard_normal(round(seconds * SAMPLE_RATE_HZ))
    for onset_s, level in zip(onsets_s, loudness, strict=True):
        time_s = np.arange(round(float(rng.uniform(*_BURST_S)) * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        formants = _VOWELS_HZ[int(rng.integers(len(_VOWELS_HZ)))]
        pitch_hz = style.voice_hz * float(rng.uniform(0.9, 1.2))
        harmonics = pitch_hz * np.arange(1, int(4000.0 / pitch_hz) + 1)
        weights = sum(1.0 / (1.0 + ((harmonics - f) / 90.0) ** 2) for f in formants)
        voice = np.sin(2.0 * np.pi * np.outer(time_s, harmonics)) @ (weights / np.sum(weights))
        envelope = np.minimum(time_s / 0.012, 1.0) * np.exp(-3.0 * time_s / time_s[-1])
        first = round(float(onset_s) * SAMPLE_RATE_HZ)
        sound[first : first + len(time_s)] += 0.5 * level * envelope * voice
    return sound.astype(np.float32)


def _motion(bones: Skeleton, style: _Style, seconds: float, onsets_s: F64, loudness: F64) -> F32:
    """(frames, joints, 3) positions; every joint angle stands still at each onset."""
    time_s = np.arange(round(seconds * FPS)) / FPS
    places = style.reach * loudness * np.where(np.arange(len(loudness)) % 2, -1.0, 1.0)
    keys_s = np.concatenate(([0.0], onsets_s, [seconds + 0.5]))
    keys = np.concatenate(([0.0], places, [0.0]))
    before = np.clip(np.searchsorted(keys_s, time_s, side="right") - 1, 0, len(keys) - 2)
    along = (time_s - keys_s[before]) / (keys_s[before + 1] - keys_s[before])
    ease = 0.5 - 0.5 * np.cos(np.pi * along)
    swing = keys[before] + ease * (keys[before + 1] - keys[before])
    return _pose(bones, style, swing)


def _pose(bones: Skeleton, style: _Style, swing: F64, head_only: bool = False) -> F32:
    """Positions for swings of (frames,), about -1.3 to 1.3."""
    rest = _rest_offsets(bones)
    limbs = _LIMBS[bones.name]
    turns = np.zeros((len(swing), len(bones.bones), 3))
    arm_swing = np.zeros_like(swing) if head_only else swing
    turns[:, 0, 2] = 0.03 * arm_swing
    turns[:, list(limbs.head), 0] = 0.1 * swing[:, None]
    for side, strength in enumerate(style.hands):
        upper, fore = limbs.upper[side], limbs.fore[side]
        move = strength * arm_swing
        flex = np.cross(rest[upper], rest[fore])
        flex /= np.linalg.norm(flex)
        outward = np.sign(rest[upper][0]) * np.array((0.0, 0.0, -1.0))
        turns[:, fore] = (style.height_rad + 0.5 * move)[:, None] * flex
        turns[:, upper] = (limbs.stance_rad + 0.26 * move)[:, None] * outward
        turns[:, upper] -= (0.2 * move)[:, None] * flex
        for bone in limbs.hand[side]:
            turns[:, bone] = (0.3 * move)[:, None] * flex
        for bone in limbs.finger[side]:
            curl = np.cross(rest[bone], -flex)
            curl /= np.linalg.norm(curl)
            turns[:, bone] = (0.25 * move)[:, None] * curl
    return _walk(bones, rest, turns)


def _rest_offsets(bones: Skeleton) -> F64:
    pose = bones.mean_pose.astype(np.float64)
    return np.stack([pose[child] - pose[parent] for parent, child in bones.bones])


def _walk(bones: Skeleton, rest: F64, turns: F64) -> F32:
    """(frames, bones, 3) turns of each bone against the one it hangs on, to positions."""
    local = rotation_matrices(turns)
    bone_to = {child: bone for bone, (_, child) in enumerate(bones.bones)}
    world = np.empty_like(local)
    positions = np.empty((len(turns), bones.joint_count, 3))
    positions[:, 0] = bones.mean_pose[0]
    for bone, (parent, child) in enumerate(bones.bones):
        above = bone_to.get(parent)
        world[:, bone] = local[:, bone] if above is None else world[:, above] @ local[:, bone]
        positions[:, child] = positions[:, parent] + world[:, bone] @ rest[bone]
    return positions.astype(np.float32)


def _faulty(bones: Skeleton, fault: str, rng: np.random.Generator) -> RawClip:
    """A recording that is as it should be but for one thing."""
    style = replace(_style(rng), height_rad=0.55, reach=1.2, hands=(1.0, 1.0))
    raw = _recording(bones, style, FAULT_SPEAKER, FAULT_SECONDS, rng)
    if fault == "too few words":
        return replace(raw, words=raw.words[:1])
    if fault == "static pose":  # still wrists would drop it too, were it not for this trembling
        positions = np.tile(bones.mean_pose, (len(raw.positions), 1, 1))
        side = bones.wrists[0]
        tremble = 0.06 * np.sign(np.sin(np.arange(len(positions)) * 0.8))
        positions[:, side, 1] += tremble.astype(np.float32)
        return replace(raw, positions=positions)
    if fault == "tilted spine":
        lean = rotation_matrices(np.array((0.0, 0.0, np.radians(40.0))))
        return replace(raw, positions=(raw.positions @ lean.T).astype(np.float32))
    nods = np.sin(np.arange(len(raw.positions)) * 0.5)
    return replace(raw, positions=_pose(bones, style, nods, head_only=True))


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = Parser(
        prog="python -m ha2g_live.training.ha2g.example",
        description="Make small LMDB folders in the published format, of made-up recordings.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--skeleton", choices=NAMES, default=NAMES[0])
    parser.add_argument("--videos", type=int, default=4, help="recordings to train on (4)")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each (12)")
    parser.add_argument("--seed", type=int, default=0, help="another gives others (0)")
    parser.add_argument(
        "--legacy-python", type=Path, metavar="EXE", help="an interpreter with pyarrow 11"
    )
    options = parser.parse_args(argv)
    write_lmdb(
        options.out,
        legacy_python(options.legacy_python),
        options.skeleton,
        options.videos,
        options.seconds,
        options.seed,
    )
    say(f"wrote {options.out}: convert it with  ha2g-live dataset convert {options.out} --out DIR")
    return 0


if __name__ == "__main__":
    sys.exit(main())
