"""The scores of motion on a data set: of the ground truth, of its control, and of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from ha2g_live.engines.ted import WINDOW_FRAMES, Skeleton
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g import metrics
from ha2g_live.training.ha2g.autoencoder import Features
from ha2g_live.training.ha2g.dataset import Int64, Split
from ha2g_live.training.ha2g.metrics import F64

TRUTH = "ground truth"
SHUFFLED = "ground truth, other audio"
_BATCH = 64


class Generator(Protocol):
    """A model that makes motion for a data set."""

    @property
    def name(self) -> str:
        """Short name for the table."""

    def windows(self, split: Split, windows: Int64) -> F32:
        """(n, 34, pose_dim) poses, each window made from its own 4 true seed poses."""

    def clip(self, split: Split, clip: int) -> F32:
        """(frames, pose_dim) a whole clip, windows 30 poses apart joined as published."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A row of the table. A number that cannot be had is NaN.

    Attributes:
        name: ground truth or the model.
        fgd: Frechet distance of latent features to the ground truth's.
        bc: beat consistency, mean over the windows that have one.
        diversity: mean L1 distance of latent features of random pairs.
        jerk: mean third derivative of joint positions, m/s^3.
        jerk_p95: its 95th percentile.
        seam: velocity change at window borders over velocity change elsewhere.
        wrist_speed: mean, m/s.
        bc_windows: how many windows have a beat consistency.
    """

    name: str
    fgd: float
    bc: float
    diversity: float
    jerk: float
    jerk_p95: float
    seam: float
    wrist_speed: float
    bc_windows: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A row, and what the plot shows of it.

    Attributes:
        scores: the row.
        beats: (windows,) beat consistency, NaN where there is none.
        wrist_speed_m_s: (frames - 1,) of the clip that is shown; empty for the control.
    """

    scores: Scores
    beats: F64
    wrist_speed_m_s: F64


@dataclass(frozen=True, slots=True)
class Selection:
    """What is scored.

    Attributes:
        split: windows and clips.
        skeleton: of the data set.
        windows: window numbers, rising.
        clips: clips for the seams, the first of them shown.
        seed: seed of everything drawn.
        quiet: no progress bars.
    """

    split: Split
    skeleton: Skeleton
    windows: Int64
    clips: Int64
    seed: int
    quiet: bool = False


def select(
    split: Split,
    skeleton: Skeleton,
    windows: int | None,
    clips: int,
    seed: int,
    quiet: bool = False,
) -> Selection:
    """Draw windows and clips; all windows where ``windows`` is None.

    Clips without a window border are left out where there are others.

    Raises:
        ConfigError: fewer than 2 windows.
    """
    if len(split) < 2:
        raise ConfigError(f"there are {len(split)} windows, scores need at least 2: try --split")
    if windows is not None and windows < 2:
        raise ConfigError(f"--windows must be at least 2, got {windows}")
    rng = np.random.default_rng(seed)
    count = len(split) if windows is None else min(windows, len(split))
    chosen = np.sort(rng.choice(len(split), count, replace=False)).astype(np.int64)
    order = rng.permutation(split.clips).astype(np.int64)
    lengths = np.array([len(split.clip_poses(int(clip))) for clip in order])
    joined = order[lengths > WINDOW_FRAMES]
    return Selection(split, skeleton, chosen, joined[:clips], seed, quiet)


def score(selection: Selection, features: Features, models: Sequence[Generator]) -> list[Scored]:
    """Score the ground truth, its control, and every model.

    Args:
        selection: the windows and clips.
        features: the autoencoder.
        models: what to score.

    Returns:
        A row for the ground truth, one for the control, one a model.

    Raises:
        Ha2gError: a model gives poses of another shape or that are not finite.
    """
    split = selection.split
    bar = tqdm(selection.windows, desc="onsets", unit="window", disable=selection.quiet or None)
    onsets_s = [metrics.audio_onsets_s(split.audio(int(window))) for window in bar]
    truth = split.poses(selection.windows)
    truth_features = features.of(truth)

    def rated(name: str, poses: F32, clip_of: Callable[[int], F32]) -> Scored:
        skeleton, seed = selection.skeleton, selection.seed
        latents = features.of(poses)
        beats = metrics.beat_scores(poses, onsets_s, skeleton)
        jerk, speed = _smoothness(poses, skeleton)
        clips = tqdm(selection.clips, desc=f"{name}: clips", disable=selection.quiet or None)
        joined = [metrics.positions_m(clip_of(int(clip)), skeleton) for clip in clips]
        shown = metrics.wrist_speed_m_s(joined[0], skeleton) if joined else np.zeros(0)
        scores = Scores(
            name=name,
            fgd=metrics.frechet_distance(truth_features, latents),
            bc=metrics.mean_score(beats),
            diversity=metrics.diversity(latents, seed),
            jerk=float(jerk.mean()),
            jerk_p95=float(np.percentile(jerk, 95)),
            seam=metrics.seam_error(joined),
            wrist_speed=float(speed.mean()),
            bc_windows=int((~np.isnan(beats)).sum()),
        )
        return Scored(scores, beats, shown)

    rows = [rated(TRUTH, truth, split.clip_poses)]
    rows.append(_control(rows[0], truth, onsets_s, selection))
    for name, model in zip(_labels(models), models, strict=True):

        def whole(clip: int, model: Generator = model) -> F32:
            return _checked(model.clip(split, clip), None, selection.skeleton, model.name)

        rows.append(rated(name, _generated(model, selection), whole))
    return rows


def _control(truth: Scored, poses: F32, onsets_s: Sequence[F64], selection: Selection) -> Scored:
    """The ground truth's row, its beats measured against the onsets of other windows."""
    shuffled = [onsets_s[window] for window in others(len(onsets_s), selection.seed)]
    beats = metrics.beat_scores(poses, shuffled, selection.skeleton)
    changed = {
        "name": SHUFFLED,
        "bc": metrics.mean_score(beats),
        "bc_windows": int((~np.isnan(beats)).sum()),
    }
    return Scored(Scores(**{**asdict(truth.scores), **changed}), beats, np.zeros(0))


def others(count: int, seed: int) -> Int64:
    """(count,) another window for each window: one random cycle, so that none keeps its own."""
    order = np.random.default_rng(seed).permutation(count)
    other = np.empty(count, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other


def _smoothness(poses: F32, skeleton: Skeleton) -> tuple[F64, F64]:
    """Jerk and wrist speed of every window, in pieces: positions take much memory."""
    jerk, speed = [], []
    for i in range(0, len(poses), 512):
        positions = metrics.positions_m(poses[i : i + 512], skeleton)
        jerk.append(metrics.jerk_m_s3(positions).astype(np.float32))
        speed.append(metrics.wrist_speed_m_s(positions, skeleton))
    return np.concatenate(jerk), np.concatenate(speed)


def _generated(model: Generator, selection: Selection) -> F32:
    """(windows, 34, pose_dim) of a model."""
    starts = range(0, len(selection.windows), _BATCH)
    bar = tqdm(starts, desc=f"{model.name}: windows", unit="batch", disable=selection.quiet or None)
    parts = []
    for i in bar:
        windows = selection.windows[i : i + _BATCH]
        made = model.windows(selection.split, windows)
        parts.append(_checked(made, len(windows), selection.skeleton, model.name))
    return np.concatenate(parts)


def _checked(poses: F32, windows: int | None, skeleton: Skeleton, name: str) -> F32:
    """The poses, if they are of the right shape and finite."""
    expected = (
        (skeleton.pose_dim,) if windows is None else (windows, WINDOW_FRAMES, skeleton.pose_dim)
    )
    shape = poses.shape[1:] if windows is None else poses.shape
    if shape != expected:
        raise Ha2gError(f"{name} makes poses of the shape {poses.shape}: it is of another data set")
    if not np.isfinite(poses).all():
        raise Ha2gError(f"{name} makes poses that are not finite: train it again")
    return np.asarray(poses, dtype=np.float32)


def _labels(models: Sequence[Generator]) -> list[str]:
    """A name of its own for each model: checkpoints of different runs are often called alike."""
    names = [model.name for model in models]
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]
