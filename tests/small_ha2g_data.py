"""A small data set in the open format whose motion follows its sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ha2g_live.engines.ted import WINDOW_FRAMES, skeleton
from ha2g_live.realtime.skeleton import normalise
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.training.ha2g.dataset import DataSet, open_dataset
from ha2g_live.training.ha2g.writer import Clip, DataSetWriter


def write_small(
    path: Path, train: int = 2, val: int = 1, frames: int = 94, name: str = "ted_gesture"
) -> DataSet:
    """Clips of a tone that swells and fades; the arms rise and fall with it.

    Args:
        path: folder to make.
        train: clips to train on, of two speakers in turn.
        val: clips to validate on.
        frames: poses of a clip; a window starts at every tenth.
        name: skeleton.
    """
    bones, rng = skeleton(name), np.random.default_rng(0)
    rest = normalise(bones.mean_direction)
    time_s = np.arange(frames) / POSE_FPS
    sound_s = np.arange(frames * SAMPLE_RATE_HZ // POSE_FPS) / SAMPLE_RATE_HZ
    with DataSetWriter(path, bones, "tones") as writer:
        for number in range(train + val):
            rate_hz, phase = rng.uniform(0.5, 1.0), rng.uniform(0.0, 6.0)
            swell = 0.5 + 0.5 * np.sin(2.0 * np.pi * rate_hz * time_s + phase)
            tone = 0.3 * np.sin(2.0 * np.pi * 220.0 * sound_s)
            moved = np.repeat(rest[None].astype(np.float64), frames, axis=0)
            moved[:, :, 0] += 1.2 * swell[:, None] * np.linspace(-1.0, 1.0, len(rest))
            moved[:, :, 2] -= 0.8 * np.roll(swell, 3)[:, None]
            directions = moved / np.linalg.norm(moved, axis=2, keepdims=True)
            clip = Clip(
                poses=(directions - bones.mean_direction)
                .reshape(frames, bones.pose_dim)
                .astype(np.float32),
                audio=(tone * (0.02 + np.interp(sound_s, time_s, swell))).astype(np.float32),
                words=[(f"word{int(rng.integers(6))}", s) for s in np.arange(0.2, time_s[-1], 0.5)],
                speaker=f"speaker{number % 2}",
                windows=range(0, frames - WINDOW_FRAMES + 1, 10),
            )
            writer.add("train" if number < train else "val", clip)
    return open_dataset(path)
