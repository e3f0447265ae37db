"""The motion that a trained network makes for the windows and clips of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ha2g_live.engines.ted import SEED_FRAMES, STRIDE_FRAMES, WINDOW_COLUMNS, WINDOW_FRAMES
from ha2g_live.engines.window import extended, seeded
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.checkpoint import Checkpoint, load_checkpoint
from ha2g_live.training.ha2g.dataset import DataSet, Int64, IntArray, Split, first_column
from ha2g_live.training.ha2g.spectrogram import SILENCE_DB

_BATCH = 32
_UNKNOWN = ("<unknown>", "<unk>", "unk")


@dataclass(frozen=True)
class Generator:
    """Makes the motion of a data set's windows and clips, with z at its mean.

    Attributes:
        name: for tables.
        checkpoint: what it runs.
        speaker_of: row of the speaker embedding for each speaker of the data set.
        word_of: row of the word embedding for each word of the data set.
        device: where it computes.
    """

    name: str
    checkpoint: Checkpoint
    speaker_of: Int64
    word_of: Int64
    device: str = "cpu"

    def windows(self, split: Split, windows: IntArray) -> F32:
        """(n, 34, dim) poses of these windows, each from its own 4 true first poses."""
        found = []
        for first in range(0, len(windows), _BATCH):
            batch = windows[first : first + _BATCH]
            spectrogram = split.spectrogram(batch, self.checkpoint.reference)
            seed = split.poses(batch)[:, :SEED_FRAMES]
            found.append(
                self._run(spectrogram, split.words_at(batch), split.speakers_at(batch), seed)
            )
        dim = self.checkpoint.network.skeleton.pose_dim
        return np.concatenate([np.zeros((0, WINDOW_FRAMES, dim), np.float32), *found])

    def clip(self, split: Split, clip: int) -> F32:
        """(frames, dim) poses of a whole clip from its 4 true first poses.

        Windows start every 30 poses, each seeded with the last 4 of the one before, and are
        cross-faded as published (supplement).
        """
        truth, words = split.clip_poses(clip), split.clip_words(clip)
        spectrogram = split.clip_spectrogram(clip, self.checkpoint.reference)
        speaker = np.array([split.clip_speaker(clip)])
        frames, seed = len(truth), truth[None, :SEED_FRAMES]
        joined = np.zeros((1, 0, truth.shape[1]), dtype=np.float32)
        for start in range(0, max(1, frames - SEED_FRAMES), STRIDE_FRAMES):
            column = int(first_column(np.array(start)))
            heard = _padded(spectrogram[:, column:], WINDOW_COLUMNS, SILENCE_DB)
            said = _padded(words[start:], WINDOW_FRAMES, 0)
            new = self._run(heard[None], said[None], speaker, seed)
            joined = extended(joined, new) if start else new
            seed = new[:, -SEED_FRAMES:]
        return np.ascontiguousarray(joined[0, :frames])

    @torch.inference_mode()
    def _run(self, spectrogram: F32, words: Int64, speakers: Int64, seed: F32) -> F32:
        """(n, 128, 70), (n, 34), (n,) and (n, 4, dim) to (n, 34, dim)."""
        if not self.checkpoint.text:
            words = np.zeros_like(words)
        arrays = (spectrogram, self.word_of[words], self.speaker_of[speakers], *seeded(seed))
        inputs = (torch.from_numpy(array).to(self.device) for array in arrays)
        found: F32 = self.checkpoint.network(*inputs).poses.cpu().numpy()
        return found


def load_generator(path: Path, dataset: DataSet, device: str = "cpu") -> Generator:
    """Open a checkpoint for the windows and clips of a data set.

    Speakers and words are matched by name. A speaker that the network does not know takes the
    place of one that it knows, all of them in turn; a word that it does not know is its unknown
    one, or none.

    Raises:
        Ha2gError: the checkpoint cannot be read, or is of another skeleton than the data set.
    """
    checkpoint = load_checkpoint(path)
    own, theirs = checkpoint.network.skeleton.name, dataset.skeleton.name
    if own != theirs:
        raise Ha2gError(f"{path} moves {own}, {dataset.path} holds {theirs}: use data of {own}")
    checkpoint.network.to(device)
    name = Path(path).resolve().name if Path(path).is_dir() else Path(path).stem
    speakers = _match_speakers(checkpoint.speakers, dataset.speakers)
    words = _match_words(checkpoint.words, dataset.words)
    return Generator(name, checkpoint, speakers, words, device)


def _match_speakers(own: tuple[str, ...], theirs: tuple[str, ...]) -> Int64:
    row_of = {name: row for row, name in enumerate(own)}
    return np.array([row_of.get(name, i % len(own)) for i, name in enumerate(theirs)], np.int64)


def _match_words(own: tuple[str, ...], theirs: tuple[str, ...]) -> Int64:
    row_of = {word: row for row, word in enumerate(own)}
    unknown = next((row for row, word in enumerate(own) if word.lower() in _UNKNOWN), 0)
    rows = [row_of.get(word, unknown) for word in theirs]
    return np.array([0, *rows[1:]], dtype=np.int64)  # "no word starts here" is 0 in both


def _padded(values: Any, length: int, filling: float) -> Any:
    """The first ``length`` along the last axis, filled up behind."""
    values = values[..., :length]
    widths = [(0, 0)] * (values.ndim - 1) + [(0, length - values.shape[-1])]
    return np.pad(values, widths, constant_values=filling)
