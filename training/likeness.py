"""How alike two sets of motion are: FGD and diversity on features of an autoencoder of our own.

It is trained on the planner's motion of the corpus's ``train`` split, so the numbers cannot be
compared with published ones. What they mean shows in the floor: what two halves of the planner's
own motion score against each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.ted import WINDOW_FRAMES
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.skeleton import BONES, JOINT_NAMES, MEAN_DIRECTION, POSE_DIM
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.autoencoder import (
    SLOPES,
    AutoencoderConfig,
    Features,
    fit_autoencoder,
)
from ha2g_live.training.ha2g.checkpoint import save_tensors
from ha2g_live.training.ha2g.encoder import build_encoder, encoder_tensors
from ha2g_live.training.ha2g.metrics import frechet_distance
from ha2g_live.training.ha2g.pickled import read_pickle
from ha2g_live.training.trials import read_about, read_poses

F64 = npt.NDArray[np.float64]

FILE = "autoencoder.pt"
FORMAT = "ha2g-live corpus autoencoder"
HOP_FRAMES = 10
"""Pose frames from one window to the next."""
FLOOR_SPLITS = 10
_SKELETON = "ted_expressive"
_TRAIN_STREAMS = 400  # ten hours: far more windows than the training draws
_FINGER_BONES = [
    bone
    for bone, (_, child) in enumerate(BONES)
    if any(f in JOINT_NAMES[child] for f in ("index", "middle", "little", "ring", "thumb"))
]


def windows_of(motion: F32, fps: float) -> F32:
    """Windows of 34 poses, minus the mean direction.

    Args:
        motion: (frames, 42, 3) directions.
        fps: their rate; 15 or a multiple of it.

    Returns:
        (windows, 34, 126) float32, one every 10 poses; none of a shorter motion.
    """
    step = round(fps / POSE_FPS)
    if step < 1 or abs(step * POSE_FPS - fps) > 1e-6:
        raise ConfigError(f"windows of 15 Hz poses need motion at a multiple of 15, got {fps:g}")
    poses = (motion[::step] - MEAN_DIRECTION).reshape(-1, POSE_DIM).astype(np.float32)
    firsts = np.arange(0, len(poses) - WINDOW_FRAMES + 1, HOP_FRAMES)
    return np.asarray(poses[firsts[:, None] + np.arange(WINDOW_FRAMES)])


def corpus_features(
    corpus: Path, folder: Path, config: AutoencoderConfig | None = None, quiet: bool = False
) -> Features:
    """The autoencoder kept in ``folder``, trained now where there is none of this corpus.

    Args:
        corpus: folder of the corpus; its ``train`` split is what it learns.
        folder: where it is kept.
        config: settings of the training.
        quiet: no progress bar.

    Raises:
        Ha2gError: the corpus cannot be read or is too small, or the folder not be written to.
    """
    config = config or AutoencoderConfig()
    path = folder / FILE
    made_of = {
        "format": FORMAT,
        "corpus": _digest(corpus),
        "config": json.dumps(asdict(config)),
    }
    if path.exists():
        found = read_pickle(path)
        if isinstance(found, dict) and {name: found.get(name) for name in made_of} == made_of:
            encoder = build_encoder(
                encoder_tensors(found.get("state"), path), path, POSE_DIM, SLOPES
            )
            return Features(encoder.eval(), _SKELETON, str(path), imported=False)
    names = read_about(corpus)["streams"]["train"]
    names = [
        names[i] for i in np.linspace(0, len(names) - 1, min(len(names), _TRAIN_STREAMS), dtype=int)
    ]
    windows = np.concatenate(
        [
            np.zeros((0, WINDOW_FRAMES, POSE_DIM), np.float32),
            *(windows_of(read_poses(corpus, name), POSE_FPS) for name in names),
        ]
    )
    if len(windows) < 2:
        raise Ha2gError(f"{corpus} has too little motion to train on: build a larger corpus")
    size = min(config.batch, len(windows))

    def draw(rng: np.random.Generator) -> F32:
        return np.asarray(windows[rng.choice(len(windows), size, replace=False)])

    network, _ = fit_autoencoder(draw, _SKELETON, POSE_DIM, config, quiet)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Ha2gError(
            f"cannot make the folder {folder} ({error}): choose another --out"
        ) from error
    save_tensors(path, {**made_of, "state": network.state_dict()}, "choose another --out")
    return Features(network.pose_encoder.eval(), _SKELETON, str(path), imported=False)


def _digest(corpus: Path) -> str:
    return hashlib.blake2b((corpus / "corpus.json").read_bytes(), digest_size=16).hexdigest()


def floor(streams: Sequence[F64], seed: int = 0) -> float:
    """FGD of two halves of the same motion, mean over several ways to halve it by streams.

    Args:
        streams: (windows, features) of each stream.
        seed: chooses the halves.

    Returns:
        The distance; NaN for fewer than two streams with windows.
    """
    full = [features for features in streams if len(features) > 1]
    if len(full) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(FLOOR_SPLITS):
        order = rng.permutation(len(full))
        half = len(full) // 2
        one, other = ([full[i] for i in part] for part in (order[:half], order[half:]))
        found.append(frechet_distance(np.concatenate(one), np.concatenate(other)))
    return float(np.mean(found))


def finger_speed(motions: Sequence[F32], fps: float) -> float:
    """Mean speed at which the fingers' bones turn, deg/s.

    Args:
        motions: (frames, 42, 3) directions each.
        fps: their rate.
    """
    turns = []
    for motion in motions:
        fingers = motion[:, _FINGER_BONES].astype(np.float64)
        # From the chord: arccos of the dot product loses slow turns to rounding.
        chord = np.linalg.norm(np.diff(fingers, axis=0), axis=-1)
        turns.append(2.0 * np.degrees(np.arcsin(np.clip(chord / 2.0, 0.0, 1.0))) * fps)
    return float(np.concatenate(turns).mean())
