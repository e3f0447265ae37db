"""BEAT2 (Liu et al., CVPR 2024): SMPL-X motion with sound, as recordings for the open format.

A language folder holds

    train_test_split.csv        columns id, type: train, val, test or additional
    smplxflame_30/ID.npz        poses (frames, 165), betas, mocap_frame_rate
    wave16k/ID.wav              sound
    textgrid/ID.TextGrid        words with their times; may be absent

and an ID begins with the speaker's number: 2_scott_0_1_1. "additional" recordings are left out.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ha2g_live.realtime.audio_file import read_audio
from ha2g_live.realtime.options import say
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.training.ha2g.dataset import SPLITS, DataSetError
from ha2g_live.training.ha2g.kinematics import F64
from ha2g_live.training.ha2g.smplx import JOINTS, UNREADABLE, Body, ted_positions
from ha2g_live.training.ha2g.windows import FILTERS, Filter, RawClip, Word

MOTION, SOUND, WORDS, TABLE = "smplxflame_30", "wave16k", "textgrid", "train_test_split.csv"
_FPS = 30.0
_TIER = re.compile(r'class\s*=\s*"IntervalTier"\s*name\s*=\s*"words"(.*?)(?=class\s*=|\Z)', re.S)
_INTERVAL = re.compile(
    r'xmin\s*=\s*([\d.eE+-]+)\s*xmax\s*=\s*([\d.eE+-]+)\s*text\s*=\s*"((?:[^"]|"")*)"'
)


@dataclass(frozen=True)
class Recording:
    """The files of one recording.

    Attributes:
        motion: the .npz file.
        sound: the .wav file.
        words: the .TextGrid file, if there is one.
        speaker: the speaker's number.
    """

    motion: Path
    sound: Path
    words: Path | None
    speaker: str


def is_beat2(path: Path) -> bool:
    """Whether a folder is a language folder of BEAT2, or holds one."""
    return bool(_languages(path))


def find_recordings(path: Path) -> dict[str, list[Recording]]:
    """The recordings of each split, in the order of the table.

    Args:
        path: a language folder of BEAT2, or the folder that holds them.

    Raises:
        DataSetError: there is no such folder, a table is missing or damaged, or no recording has
            its files.
    """
    languages = _languages(path)
    if not languages:
        raise DataSetError(
            f"{path} is not BEAT2 (no folder {MOTION}): give the folder that holds {MOTION}, "
            f"{SOUND} and {TABLE}"
        )
    found: dict[str, list[Recording]] = {split: [] for split in SPLITS}
    absent = 0
    for folder in languages:
        for name, split in _rows(folder / TABLE):
            if split not in SPLITS:
                continue
            motion = folder / MOTION / f"{name}.npz"
            sound = folder / SOUND / f"{name}.wav"
            grid = folder / WORDS / f"{name}.TextGrid"
            if not (motion.is_file() and sound.is_file()):
                absent += 1
                continue
            words = grid if grid.is_file() else None
            found[split].append(Recording(motion, sound, words, name.partition("_")[0]))
    if not any(found.values()):
        raise DataSetError(
            f"{path}: none of the {absent} recordings in {TABLE} has both a file in {MOTION} and "
            f"one in {SOUND}: download the data set again"
        )
    if absent:
        say(f"{absent} recordings of the table have no motion or no sound and are left out")
    return found


def load(recording: Recording, body: Body) -> tuple[RawClip, dict[str, Filter]]:
    """A recording, and the filters that make sense for it.

    Without a TextGrid nobody knows the words, so windows with few of them are kept.

    Raises:
        DataSetError: a file is damaged.
        AudioFileError: the sound is.
    """
    poses, betas, fps = _motion(recording.motion)
    duration_s = len(poses) / fps
    words = _words(recording.words) if recording.words else []
    raw = RawClip(
        speaker=recording.speaker,
        positions=ted_positions(poses, betas, body),
        duration_s=duration_s,
        words=words,
        audio=read_audio(recording.sound)[: round(duration_s * SAMPLE_RATE_HZ)],
    )
    filters = dict(FILTERS)
    if recording.words is None:
        del filters["too few words"]
    return raw, filters


def _languages(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [f for f in (path, *sorted(path.iterdir())) if (f / MOTION).is_dir()]


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [(row["id"].strip(), row["type"].strip()) for row in csv.DictReader(file)]
    except (OSError, KeyError, AttributeError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(
            f"{path} cannot be read ({error}): it should be a table with columns id and type"
        ) from error


def _motion(path: Path) -> tuple[F64, F64, float]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            poses = np.asarray(file["poses"], dtype=np.float64)
            betas = np.asarray(file["betas"], dtype=np.float64).reshape(-1)
            rate = file["mocap_frame_rate"] if "mocap_frame_rate" in file else np.array(_FPS)
            fps = float(np.asarray(rate).reshape(()))
        if poses.ndim != 2 or poses.shape[1] != 3 * len(JOINTS) or not len(poses):
            raise ValueError(f"poses are {list(poses.shape)}, expected [frames, {3 * len(JOINTS)}]")
        if not (np.isfinite(poses).all() and np.isfinite(betas).all() and fps > 0.0):
            raise ValueError("it holds numbers that are not finite")
    except (*UNREADABLE, KeyError) as error:
        raise DataSetError(f"{path} is damaged ({error}): download it again") from error
    return poses, betas, fps


def _words(path: Path) -> list[Word]:
    """The tier "words" of a TextGrid in Praat's long text format."""
    try:
        data = path.read_bytes()
        encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
        tier = _TIER.search(data.decode(encoding))
        if tier is None:
            raise ValueError("it has no tier called words")
        found = [
            (text.strip(), float(start), float(end))
            for start, end, text in _INTERVAL.findall(tier[1])
        ]
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path} is damaged ({error}): download it again") from error
    return [word for word in found if word[0]]
