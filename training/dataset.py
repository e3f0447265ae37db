"""Streams of a corpus, and lanes that walk through them side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.network import SEED_FRAMES
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.features import silent_columns
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, POSE_DIM
from ha2g_live.realtime.timebase import (
    COLUMNS_PER_STEP,
    FRAMES_AHEAD,
    columns_complete,
    samples_heard_at,
)
from ha2g_live.realtime.types import F32


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of the corpus, 15 Hz.

    Attributes:
        columns: (columns, 128) float16 mel columns.
        poses: (frames, 126) float16 directions minus the mean direction.
        choice: (frames,) gesture being made.
        age: (frames,) frames since it was chosen.
        style: index of the style.
        phrase: (frames, 5) where in its phrase each frame lies (``corpus.phrase_features``).
    """

    columns: npt.NDArray[np.float16]
    poses: npt.NDArray[np.float16]
    choice: npt.NDArray[np.int16]
    age: npt.NDArray[np.int32]
    style: int
    phrase: npt.NDArray[np.float16]

    @property
    def steps(self) -> int:
        """Steps whose targets lie inside the stream."""
        return len(self.poses) - FRAMES_AHEAD


@dataclass(frozen=True, slots=True)
class Batch:
    """``frames`` steps of every lane. Arrays are (lanes, frames, ...).

    Attributes:
        audio: (..., 3, 128) newest columns of each step.
        targets: (..., 3, 126) poses ahead, minus the mean.
        label: what the choice head should say: 0 carry on, else 1 + the choice.
        choice: gesture of the step; ``choice_before`` that of the step before, -1 for none.
        age: frames since the choice; ``age_before`` that of the step before.
        style: (lanes,) style index.
        phrase: (lanes, frames, 5) where in its phrase each frame lies.
        restarted: (lanes,) lanes that begin a new stream here.
        first_seeds: (lanes, 4, 126) true seeds for lanes that begin in mid-stream, else zeros.
    """

    audio: F32
    targets: F32
    label: npt.NDArray[np.int64]
    choice: npt.NDArray[np.int64]
    choice_before: npt.NDArray[np.int64]
    age: F32
    age_before: F32
    style: npt.NDArray[np.int64]
    phrase: F32
    restarted: npt.NDArray[np.bool_]
    first_seeds: F32


def load_corpus(folder: Path, split: str) -> tuple[list[Stream], dict[str, Any]]:
    """All streams of a split, and what ``corpus.json`` says.

    Raises:
        Ha2gError: the folder holds no corpus.
    """
    about_path = folder / "corpus.json"
    if not about_path.is_file():
        raise Ha2gError(f"{about_path} is missing: build a corpus with  ha2g-live corpus build")
    about: dict[str, Any] = json.loads(about_path.read_text(encoding="utf-8"))
    mean = MEAN_DIRECTION.reshape(POSE_DIM)
    streams = []
    for name in about["streams"][split]:
        with np.load(folder / f"{name}.npz") as file:
            poses = file["directions"].reshape(-1, POSE_DIM).astype(np.float32) - mean
            streams.append(
                Stream(
                    file["columns"],
                    poses.astype(np.float16),
                    file["choice"],
                    file["age"],
                    int(file["style"]),
                    file["phrase"],
                )
            )
    return streams, about


def audio_of(stream: Stream, first: int, frames: int) -> F32:
    """(frames, 3, 128) columns that the steps from ``first`` on hear, as live."""
    ends = np.array([columns_complete(samples_heard_at(n)) for n in range(first, first + frames)])
    rows = ends[:, None] + np.arange(-COLUMNS_PER_STEP, 0)
    audio = stream.columns[np.clip(rows, 0, len(stream.columns) - 1)].astype(np.float32)
    audio[rows < 0] = silent_columns(1)[0]
    return audio


class Lanes:
    """Walks ``lanes`` streams at once, ``frames`` steps at a time; a finished one is replaced.

    The network's state is carried from batch to batch, so it is trained on streams of a minute
    and more with its own past, as it lives at run time.
    """

    def __init__(
        self, streams: list[Stream], lanes: int, frames: int, rng: np.random.Generator
    ) -> None:
        self._streams = [s for s in streams if s.steps >= frames]
        if not self._streams:
            raise Ha2gError(f"no stream of the corpus is {frames} frames long: build a larger one")
        self._frames = frames
        self._rng = rng
        self._stream = [self._draw() for _ in range(lanes)]
        self._at = [int(rng.integers(0, s.steps - frames + 1)) for s in self._stream]
        self._restarted = np.ones(lanes, dtype=bool)

    def _draw(self) -> Stream:
        return self._streams[int(self._rng.integers(len(self._streams)))]

    def next(self) -> Batch:
        """The next batch."""
        parts = []
        seeds = np.zeros((len(self._stream), SEED_FRAMES, POSE_DIM), dtype=np.float32)
        restarted = self._restarted.copy()
        style = np.array([stream.style for stream in self._stream], dtype=np.int64)
        for lane, (stream, at) in enumerate(zip(self._stream, self._at, strict=True)):
            if restarted[lane] and at > 0:
                past = np.arange(at - SEED_FRAMES + 1, at + 1)
                seeds[lane] = stream.poses[np.maximum(past, 0)]
            parts.append(self._part(stream, at))
            self._advance(lane)
        audio, targets, choice, before, age, age_before, phrase = (
            np.stack(arrays) for arrays in zip(*parts, strict=True)
        )
        return Batch(
            audio=audio,
            targets=targets,
            label=np.where(age == 0, choice + 1, 0).astype(np.int64),
            choice=choice.astype(np.int64),
            choice_before=before.astype(np.int64),
            age=age.astype(np.float32),
            age_before=age_before.astype(np.float32),
            style=style,
            phrase=phrase,
            restarted=restarted,
            first_seeds=seeds,
        )

    def _part(self, stream: Stream, at: int) -> tuple[npt.NDArray[Any], ...]:
        steps = np.arange(at, at + self._frames)
        ahead = steps[:, None] + np.arange(1, FRAMES_AHEAD + 1)
        before = steps - 1
        none = before < 0
        return (
            audio_of(stream, at, self._frames),
            stream.poses[ahead].astype(np.float32),
            stream.choice[steps],
            np.where(none, -1, stream.choice[before]),
            stream.age[steps],
            np.where(none, 0, stream.age[before]),
            stream.phrase[steps].astype(np.float32),
        )

    def _advance(self, lane: int) -> None:
        self._at[lane] += self._frames
        self._restarted[lane] = self._at[lane] + self._frames > self._stream[lane].steps
        if self._restarted[lane]:
            self._stream[lane] = self._draw()
            self._at[lane] = 0
