"""Writes a data set in the open format; every converter ends here."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.ted import WINDOW_FRAMES, Skeleton
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.dataset import (
    CLIP_COLUMNS,
    FIRST_WORDS,
    FORMAT,
    SPLITS,
    UNKNOWN_WORD,
    VERSION,
    DataSetError,
    layout,
)
from ha2g_live.training.ha2g.spectrogram import clip_decibels, stream_decibels


@dataclass(frozen=True)
class Clip:
    """A clip on its way into a data set.

    Attributes:
        poses: (frames, pose_dim) float32 directions minus the mean, 15 a second.
        audio: (samples,) mono at 16 kHz, from the time of the first pose on; empty where only the
            spectrograms are known.
        words: (word, start in seconds from the clip's start); as they come, lower case.
        speaker: name of the speaker.
        windows: first frames of the windows to keep.
        spectrogram: (128, columns) dB below the clip's maximum; computed when left out.
        stream_spectrogram: (128, columns) dB as a live stream sees them; computed when left out.
    """

    poses: F32
    audio: F32
    words: Sequence[tuple[str, float]]
    speaker: str
    windows: Sequence[int]
    spectrogram: npt.NDArray[Any] | None = field(default=None)
    stream_spectrogram: npt.NDArray[Any] | None = field(default=None)


class _GrowingArray:
    """A .npy file that rows are added to. Its header, of fixed size, is filled in at the end."""

    _HEADER_BYTES = 128

    def __init__(self, path: Path, rest: tuple[int, ...], dtype: str) -> None:
        self._rest, self._dtype = rest, dtype
        self.rows = 0
        self._file: BinaryIO = path.open("wb")
        self._file.write(bytes(self._HEADER_BYTES))

    def add(self, rows: npt.NDArray[Any]) -> None:
        array = np.ascontiguousarray(rows, dtype=self._dtype)
        if array.shape[1:] != self._rest:
            raise ValueError(f"expected rows of shape {self._rest}, got {array.shape[1:]}")
        self._file.write(array.tobytes())
        self.rows += len(array)

    def close(self, complete: bool) -> None:
        if complete:
            about = {
                "descr": self._dtype,
                "fortran_order": False,
                "shape": (self.rows, *self._rest),
            }
            start = np.lib.format.magic(1, 0)
            size = self._HEADER_BYTES - len(start) - 2
            text = repr(about).encode("latin1").ljust(size - 1) + b"\n"
            self._file.seek(0)
            self._file.write(start + size.to_bytes(2, "little") + text)
        self._file.close()


class DataSetWriter:
    """Writes a data set; as a context manager, what fails leaves nothing.

    The vocabularies of words and speakers come from the first split that is written, which is to
    be the training split. In a later split a new word is the unknown one, and a new speaker is
    given the name of a known one, all of them in turn: a network has no style for a stranger.

    Args:
        path: folder to make; it must not exist or be empty.
        bones: the skeleton.
        source: what the data come from, for people.

    Raises:
        DataSetError: the folder exists or cannot be made.
    """

    def __init__(self, path: Path, bones: Skeleton, source: str) -> None:
        self.path, self.skeleton, self.source = Path(path), bones, source
        self.notes: dict[str, Any] = {}
        self.clips: Counter[str] = Counter()
        self.windows: Counter[str] = Counter()
        self._speakers: dict[str, int] = {}
        self._strangers: dict[str, int] = {}
        self._words: dict[str, int] = {word: i for i, word in enumerate(FIRST_WORDS)}
        self._files: dict[str, dict[str, _GrowingArray]] = {}
        check_new(self.path)
        self._unfinished = self.path.absolute().with_name(f".{self.path.absolute().name}.part")
        try:
            if self._unfinished.exists():  # of a conversion that was killed
                shutil.rmtree(self._unfinished)
            self._unfinished.mkdir(parents=True)
        except OSError as error:
            raise DataSetError(
                f"{self.path} cannot be written ({error}): choose another --out"
            ) from error

    def __enter__(self) -> DataSetWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        complete = kind is None
        try:
            for files in self._files.values():
                for file in files.values():
                    file.close(complete)
            if complete:
                self._finish()
        except OSError as failure:
            raise _full(self.path, failure) from failure
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def add(self, split: str, clip: Clip) -> None:
        """Append a clip.

        Raises:
            ValueError: the clip's arrays do not fit each other, or the split was left already.
            DataSetError: the disk is full or gone.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        frames, last = len(clip.poses), max(clip.windows, default=0)
        if min(clip.windows, default=0) < 0 or last + WINDOW_FRAMES > frames:
            raise ValueError(f"a window leaves the clip of {frames} frames: {list(clip.windows)}")
        if len(clip.audio) == 0 and (clip.spectrogram is None or clip.stream_spectrogram is None):
            raise ValueError("a clip needs sound, or both of its spectrograms")
        try:
            self._write(split, clip)
        except OSError as error:
            raise _full(self.path, error) from error

    def _write(self, split: str, clip: Clip) -> None:
        audio = np.clip(clip.audio, -60000.0, 60000.0).astype(np.float16)
        # The features are those of the sound as stored, so that they can be recomputed from it.
        heard = audio.astype(np.float32)
        by_clip = clip_decibels(heard) if clip.spectrogram is None else clip.spectrogram
        by_stream = clip.stream_spectrogram
        if by_stream is None:
            by_stream = stream_decibels(heard, by_clip.shape[1])
        elif by_stream.shape != by_clip.shape:
            raise ValueError(f"spectrograms of shapes {by_clip.shape} and {by_stream.shape}")
        files = self._open(split)
        words = self._word_numbers(split, clip)
        speaker = self._speaker_number(split, clip.speaker)
        number = files["clips"].rows
        sizes = (
            *(files["poses"].rows, len(clip.poses)),
            *(files["spectrogram_clip"].rows, by_clip.shape[1]),
            *(files["audio"].rows, len(audio)),
        )
        windows = np.array([(number, first) for first in sorted(clip.windows)], dtype=np.int64)
        files["poses"].add(clip.poses)
        files["words"].add(words)
        files["spectrogram_clip"].add(by_clip.T)
        files["spectrogram_stream"].add(by_stream.T)
        files["audio"].add(audio)
        files["clips"].add(np.array([(*sizes, speaker)], dtype=np.int64))
        files["windows"].add(windows.reshape(-1, 2))
        self.clips[split] += 1
        self.windows[split] += len(windows)

    def _open(self, split: str) -> dict[str, _GrowingArray]:
        if split not in self._files:
            folder = self._unfinished / split
            folder.mkdir()
            self._files[split] = {
                name: _GrowingArray(folder / f"{name}.npy", rest, dtype)
                for name, (rest, dtype) in layout(self.skeleton.pose_dim).items()
            }
        elif self._learning(split) and len(self._files) > 1:
            raise ValueError(f"clips of {split!r} must come before those of other splits")
        return self._files[split]

    def _learning(self, split: str) -> bool:
        return split == next(iter(self._files))

    def _word_numbers(self, split: str, clip: Clip) -> npt.NDArray[np.int32]:
        numbers = np.zeros(len(clip.poses), dtype=np.int32)
        for word, start_s in clip.words:
            frame = math.floor(start_s * POSE_FPS)
            if not 0 <= frame < len(numbers):
                continue
            if word not in self._words and self._learning(split):
                self._words[word] = len(self._words)
            numbers[frame] = self._words.get(word, UNKNOWN_WORD)
        return numbers

    def _speaker_number(self, split: str, name: str) -> int:
        if name in self._speakers:
            return self._speakers[name]
        if self._learning(split):
            return self._speakers.setdefault(name, len(self._speakers))
        turn = len(self._strangers) % len(self._speakers)
        return self._strangers.setdefault(name, turn)

    def _finish(self) -> None:
        about = {
            "format": FORMAT,
            "version": VERSION,
            "skeleton": self.skeleton.name,
            "source": self.source,
            "splits": {name: name in self._files for name in SPLITS},
            "clip_columns": CLIP_COLUMNS,
            "notes": self.notes,
            "speakers": list(self._speakers),
            "words": list(self._words),
        }
        text = json.dumps(about, indent=1, ensure_ascii=False)
        (self._unfinished / "dataset.json").write_text(text, encoding="utf-8")
        if self.path.is_dir():
            self.path.rmdir()  # empty, as was checked; Windows does not rename over a folder
        self._unfinished.rename(self.path)


def check_new(path: Path) -> None:
    """Raise DataSetError where a data set cannot be written to because something is there."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise DataSetError(f"{path} exists already: choose another --out, or remove it first")


def _full(path: Path, error: OSError) -> DataSetError:
    return DataSetError(f"{path} cannot be written ({error}): make room or choose another --out")
