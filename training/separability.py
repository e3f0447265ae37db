"""Can the styles be told apart from the motion alone?

A linear classifier sees statistics of 20 s of motion. It learns on half of the streams and answers
for the other half, so it cannot know a stream again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ha2g_live.realtime.types import F32
from ha2g_live.training.measures import FPS, motion_curves

F64 = npt.NDArray[np.float64]

PIECE_S = 20.0
_STEPS = 300
_DECAY = 1e-2


def piece_statistics(motion: F32, fps: float) -> F64:
    """(pieces, 32) statistics of each 20 s of a (frames, 42, 3) motion."""
    found = motion_curves(motion, fps)
    size = round(PIECE_S * FPS)
    rows = []
    for first in range(0, len(found.speed_m_s) - size + 1, size):
        speed = found.speed_m_s[first : first + size]
        place = found.wrists_m[first : first + size].reshape(size, -1)
        head = found.head_deg_s[first : first + size]
        jerk = found.jerk_m_s3[first : first + size]
        rows.append(
            np.concatenate(
                [
                    np.log(speed.mean(axis=0) + 0.01),
                    np.log(np.percentile(speed, 95, axis=0) + 0.01),
                    speed.std(axis=0),
                    (speed < 0.05).mean(axis=0),
                    np.log(jerk.mean(axis=0) + 1.0),
                    place.mean(axis=0),
                    place.std(axis=0),
                    np.percentile(place[:, [1, 4]], 95, axis=0),
                    np.percentile(place[:, [1, 4]], 5, axis=0),
                    np.log(np.percentile(head, (25, 50, 75, 95)) + 1.0),
                    [float((speed[:, 0] - speed[:, 1]).mean()), float(speed.min(axis=1).mean())],
                ]
            )
        )
    return np.array(rows).reshape(len(rows), 32)


def separability(
    motions: Mapping[str, Sequence[F32]], fps: float, seed: int = 0
) -> dict[str, float]:
    """Accuracy of the classifier on streams it has not seen, and chance.

    Args:
        motions: (frames, 42, 3) directions by style; every second stream of each is for learning.
        fps: their rate.
        seed: of the classifier's start.

    Returns:
        ``style_accuracy`` and ``style_chance``, the share of the most frequent style; NaN where
        fewer than two styles have 20 s for both halves.
    """
    halves: tuple[list[F64], list[F64]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    known = 0
    for streams in motions.values():
        pieces = [piece_statistics(motion, fps) for motion in streams]
        parts = [np.concatenate([np.zeros((0, 32)), *pieces[half::2]]) for half in (0, 1)]
        if not all(map(len, parts)):
            continue
        for half, part in enumerate(parts):
            halves[half].append(part)
            labels[half].extend([known] * len(part))
        known += 1
    if known < 2:
        return {"style_accuracy": float("nan"), "style_chance": float("nan")}
    seen, new = (np.concatenate(half) for half in halves)
    mean, spread = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-6)
    guessed = _classify((seen - mean) / spread, labels[0], (new - mean) / spread, known, seed)
    truth = np.array(labels[1])
    return {
        "style_accuracy": float((guessed == truth).mean()),
        "style_chance": float(np.bincount(truth).max() / len(truth)),
    }


def _classify(
    seen: F64, labels: list[int], new: F64, classes: int, seed: int
) -> npt.NDArray[np.int64]:
    """Multinomial logistic regression."""
    x, y = torch.from_numpy(seen).float(), torch.tensor(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(x.shape[1], classes)
        optimiser = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=_DECAY)
        for _ in range(_STEPS):
            loss = torch.nn.functional.cross_entropy(layer(x), y)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.inference_mode():
            scores: npt.NDArray[np.float32] = layer(torch.from_numpy(new).float()).numpy()
    return np.asarray(scores.argmax(axis=1))
