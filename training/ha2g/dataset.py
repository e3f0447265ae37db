"""The open format of a data set: plain .npy files, read through memory maps.

    DIR/dataset.json            skeleton, speakers, words, source, format and version
    DIR/train|val|test/
        clips.npy               (clips, 7) int64: ``CLIP_COLUMNS``
        windows.npy             (windows, 2) int64: clip, first frame in the clip
        poses.npy               (frames, pose_dim) float32: directions minus the mean, 15 a second
        words.npy               (frames,) int32: word that starts in the frame
        spectrogram_clip.npy    (columns, 128) float16: dB below the loudest of the clip
        spectrogram_stream.npy  (columns, 128) float16: dB as a live stream sees them
        audio.npy               (samples,) float16: 16 kHz mono; a clip may have none

All clips of a split stand one after the other. ``dataset.json`` is written last, and the folder
gets its name last, so what was left unfinished does not open.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.ted import WINDOW_COLUMNS, WINDOW_FRAMES, Skeleton, skeleton
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.timebase import HOP_SAMPLES, MEL_BANDS, POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.spectrogram import SILENCE_DB

IntArray = npt.NDArray[np.integer[Any]]
Int64 = npt.NDArray[np.int64]

FORMAT = "ha2g-live data set"
VERSION = 1
SPLITS = ("train", "val", "test")
REFERENCES = ("clip", "stream")
NO_WORD, UNKNOWN_WORD = 0, 1
FIRST_WORDS = ("", "<unknown>")
CLIP_COLUMNS = ("frame", "frames", "column", "columns", "sample", "samples", "speaker")
WINDOW_SAMPLES = math.ceil(WINDOW_FRAMES * SAMPLE_RATE_HZ / POSE_FPS)


class DataSetError(Ha2gError):
    """A data set is missing, damaged, of another kind, or cannot be written."""


def first_column(frames: IntArray) -> Int64:
    """Spectrogram column where a window that starts at pose frame ``frames`` of its clip starts."""
    return np.asarray(frames, dtype=np.int64) * SAMPLE_RATE_HZ // POSE_FPS // HOP_SAMPLES


class Split:
    """The windows and clips of one split.

    Arrays returned are copies. It may be sent to worker processes: they map the files anew.

    Args:
        folder: where its files are; None for a split without windows.
        pose_dim: numbers in a pose.

    Raises:
        DataSetError: a file is missing or damaged.
    """

    def __init__(self, folder: Path | None, pose_dim: int) -> None:
        self._folder, self._pose_dim = folder, pose_dim
        arrays = {
            name: np.zeros((0, *rest), dtype)
            if folder is None
            else _mapped(folder / f"{name}.npy", rest, dtype)
            for name, (rest, dtype) in layout(pose_dim).items()
        }
        self._poses: F32 = arrays["poses"]
        self._words = arrays["words"]
        self._audio = arrays["audio"]
        self._spectrogram = {name: arrays[f"spectrogram_{name}"] for name in REFERENCES}
        clips, windows = np.array(arrays["clips"]), np.array(arrays["windows"])
        if folder is not None:
            _check_index(folder, arrays, clips, windows)
        # Columns of the two indices, by name and in memory: they are small and always needed.
        self._clip: dict[str, Int64] = dict(zip(CLIP_COLUMNS, clips.T.copy(), strict=True))
        self._window_clip: Int64 = windows[:, 0].copy()
        self._window_frame: Int64 = windows[:, 1].copy()

    def __reduce__(self) -> tuple[type[Split], tuple[Path | None, int]]:
        return Split, (self._folder, self._pose_dim)

    def __len__(self) -> int:
        return len(self._window_clip)

    @property
    def clips(self) -> int:
        """Number of clips."""
        return len(self._clip["frame"])

    def poses(self, windows: IntArray) -> F32:
        """(n, 34, pose_dim) float32 of the windows, directions minus the mean."""
        return np.asarray(self._poses[self._frames(windows)])

    def words_at(self, windows: IntArray) -> Int64:
        """(n, 34) int64 word that starts in each frame, 0 for none."""
        return self._words[self._frames(windows)].astype(np.int64)

    def speakers_at(self, windows: IntArray) -> Int64:
        """(n,) int64 index into the data set's speakers."""
        return self._clip["speaker"][self._window_clip[windows]]

    def spectrogram(self, windows: IntArray, reference: str = "clip") -> F32:
        """(n, 128, 70) float32 dB in -80..0, silence after the clip's end.

        Args:
            windows: (n,) window numbers.
            reference: "clip" for dB below the clip's maximum, "stream" for what is seen live.
        """
        stored = self._of_reference(reference)
        clip = self._window_clip[windows]
        columns = first_column(self._window_frame[windows])[:, None] + np.arange(WINDOW_COLUMNS)
        count = self._clip["columns"][clip][:, None]
        rows = self._clip["column"][clip][:, None] + np.minimum(columns, count - 1)
        found = stored[rows].astype(np.float32)
        found[columns >= count] = SILENCE_DB
        return np.ascontiguousarray(found.transpose(0, 2, 1))

    def audio(self, window: int) -> F32:
        """(36267,) float32 sound of one window, zeros where the clip has none."""
        clip = self._window_clip[window]
        begin = int(self._window_frame[window]) * SAMPLE_RATE_HZ // POSE_FPS
        end = min(begin + WINDOW_SAMPLES, int(self._clip["samples"][clip]))
        sound = np.zeros(WINDOW_SAMPLES, dtype=np.float32)
        if end > begin:
            first = self._clip["sample"][clip]
            sound[: end - begin] = self._audio[first + begin : first + end]
        return sound

    def clip_of(self, window: int) -> int:
        """Clip of a window."""
        return int(self._window_clip[window])

    def frame_of(self, window: int) -> int:
        """First frame of a window in its clip."""
        return int(self._window_frame[window])

    def windows_of(self, clip: int) -> Int64:
        """Windows of a clip, in order of time."""
        first, last = np.searchsorted(self._window_clip, (clip, clip + 1))
        return np.arange(first, last, dtype=np.int64)

    def clip_poses(self, clip: int) -> F32:
        """(frames, pose_dim) float32, the whole clip."""
        return np.array(self._poses[self._run(clip, "frame")])

    def clip_words(self, clip: int) -> Int64:
        """(frames,) int64 word that starts in each frame."""
        return self._words[self._run(clip, "frame")].astype(np.int64)

    def clip_spectrogram(self, clip: int, reference: str = "clip") -> F32:
        """(128, columns) float32 dB in -80..0, the whole clip."""
        stored = self._of_reference(reference)[self._run(clip, "column")]
        return np.ascontiguousarray(stored.T.astype(np.float32))

    def clip_audio(self, clip: int) -> F32:
        """(samples,) float32, the whole clip, 16 kHz mono."""
        return self._audio[self._run(clip, "sample")].astype(np.float32)

    def clip_speaker(self, clip: int) -> int:
        """Index into the data set's speakers."""
        return int(self._clip["speaker"][clip])

    def within(self, speakers: int, words: int) -> bool:
        """Whether all speakers and words lie in vocabularies of these sizes."""
        speaker, word = self._clip["speaker"], self._words
        return bool(
            speaker.min(initial=0) >= 0
            and speaker.max(initial=-1) < speakers
            and word.min(initial=0) >= 0
            and word.max(initial=-1) < words
        )

    def _frames(self, windows: IntArray) -> Int64:
        first = self._clip["frame"][self._window_clip[windows]] + self._window_frame[windows]
        return np.asarray(first[:, None] + np.arange(WINDOW_FRAMES))

    def _run(self, clip: int, what: str) -> slice:
        first = int(self._clip[what][clip])
        return slice(first, first + int(self._clip[f"{what}s"][clip]))

    def _of_reference(self, reference: str) -> npt.NDArray[np.float16]:
        if reference not in REFERENCES:
            raise ConfigError(f"no reference {reference!r}: choose one of {', '.join(REFERENCES)}")
        return self._spectrogram[reference]


@dataclass(frozen=True)
class DataSet:
    """A data set that was opened.

    Attributes:
        path: its folder.
        skeleton: bones and statistics.
        speakers: names of the speakers (video ids for TED).
        words: vocabulary; 0 is "" (no word starts here), 1 is "<unknown>".
        source: what it was made from, for people.
        notes: counts of the conversion, such as windows dropped by each filter.
        train: windows to train on; ``val`` and ``test`` likewise. A split may be empty.
    """

    path: Path
    skeleton: Skeleton
    speakers: tuple[str, ...]
    words: tuple[str, ...]
    source: str
    notes: dict[str, Any]
    train: Split
    val: Split
    test: Split

    def split(self, name: str) -> Split:
        """The split called "train", "val" or "test"."""
        if name not in SPLITS:
            raise ConfigError(f"no split {name!r}: choose one of {', '.join(SPLITS)}")
        found: Split = getattr(self, name)
        return found


def open_dataset(path: Path) -> DataSet:
    """Open a data set folder.

    Raises:
        DataSetError: it is missing, unfinished, damaged, or not a data set of this program.
    """
    path = Path(path)
    about_path = path / "dataset.json"
    if not path.is_dir():
        raise DataSetError(
            f"there is no data set folder {path}: make one with  ha2g-live dataset convert"
        )
    if not about_path.is_file():
        raise DataSetError(
            f"{path} is not a data set of this program (it has no dataset.json): "
            "make one with  ha2g-live dataset convert"
        )
    try:
        about = json.loads(about_path.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        version = int(about["version"])
        if version == VERSION:
            bones = skeleton(str(about["skeleton"]))
            speakers, words = tuple(map(str, about["speakers"])), tuple(map(str, about["words"]))
            if words[:2] != FIRST_WORDS:
                raise ValueError("its words do not begin with the two special ones")
            source, notes = str(about["source"]), dict(about.get("notes", {}))
            present = {name: bool(about["splits"][name]) for name in SPLITS}
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError, OSError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise DataSetError(
            f"{about_path} is damaged or not of this program ({reason}): convert again"
        ) from error
    if version != VERSION:
        raise DataSetError(
            f"{path} has version {version} of the format, this program reads {VERSION}: "
            "convert again"
        )
    splits = {
        name: Split(path / name if present[name] else None, bones.pose_dim) for name in SPLITS
    }
    for name, split in splits.items():
        if not split.within(len(speakers), len(words)):
            raise DataSetError(
                f"{path / name} names a speaker or a word that is not there: convert again"
            )
    return DataSet(path, bones, speakers, words, source, notes, **splits)


def layout(pose_dim: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """File of a split: shape of a row, element type (little-endian)."""
    return {
        "clips": ((len(CLIP_COLUMNS),), "<i8"),
        "windows": ((2,), "<i8"),
        "poses": ((pose_dim,), "<f4"),
        "words": ((), "<i4"),
        "spectrogram_clip": ((MEL_BANDS,), "<f2"),
        "spectrogram_stream": ((MEL_BANDS,), "<f2"),
        "audio": ((), "<f2"),
    }


def _mapped(path: Path, rest: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        cause = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise DataSetError(f"{path} {cause}: convert the data set again") from error
    if array.shape[1:] != rest or array.ndim != len(rest) + 1 or array.dtype != np.dtype(dtype):
        raise DataSetError(
            f"{path} is {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)} "
            f"[rows{''.join(f', {size}' for size in rest)}]: convert the data set again"
        )
    return array


def _check_index(
    folder: Path, arrays: dict[str, npt.NDArray[Any]], clips: Int64, windows: Int64
) -> None:
    """What is looked up later must lie inside the files."""
    by_name = dict(zip(CLIP_COLUMNS, clips.T, strict=True))
    lengths = {"frame": "poses", "column": "spectrogram_clip", "sample": "audio"}
    sound = len(arrays["words"]) == len(arrays["poses"])
    sound &= len(arrays["spectrogram_stream"]) == len(arrays["spectrogram_clip"])
    for what, name in lengths.items():
        ends = np.cumsum(by_name[f"{what}s"])
        begins = ends - by_name[f"{what}s"]
        least = 0 if what == "sample" else 1
        sound &= bool((by_name[what] == begins).all() and (by_name[f"{what}s"] >= least).all())
        sound &= (ends[-1] if len(ends) else 0) == len(arrays[name])
    clip, frame = windows.T
    sound &= bool((clip >= 0).all() and (clip < len(clips)).all() and (np.diff(clip) >= 0).all())
    if sound and len(windows):
        sound &= bool((frame >= 0).all())
        sound &= bool((frame + WINDOW_FRAMES <= by_name["frames"][clip]).all())
    if not sound:
        raise DataSetError(f"{folder}: its files do not fit each other: convert the data set again")
