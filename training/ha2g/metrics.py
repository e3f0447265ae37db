"""The numbers that judge motion: FGD, beat consistency, diversity, jerk, seams, wrist speed.

Poses are what the networks work on: (windows, 34, 3 * bones) directions minus the data set's mean
direction, 15 a second. Everything is computed in float64. ``docs/metrics.md`` explains each number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.engines.ted import SEED_FRAMES, STRIDE_FRAMES, Skeleton
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]
AnyFloat = npt.NDArray[np.floating[Any]]

BEAT_SIGMA_S = 0.1
"""Width of the Gaussian that forgives a beat for being early or late."""
BEAT_DROP = 0.03
"""A minimum of the angle change counts as a beat where it lies this far below a neighbour."""
DIVERSITY_PAIRS = 500


# --- distribution of motion


def frechet_distance(first: AnyFloat, second: AnyFloat) -> float:
    """Squared Frechet distance of Gaussian fits to two sets of features (FGD, FID).

    |mean - mean'|^2 + trace(C + C' - 2 (C C')^(1/2)). The trace of the root is the sum of the
    singular values of A^T A' for any factors C = A A^T, C' = A' A'^T. This takes no matrix root,
    so covariances without full rank (fewer windows than features) cost no precision.

    Args:
        first: (n, features), n >= 2.
        second: (m, features), m >= 2.

    Returns:
        The distance, 0 for equal sets.

    Raises:
        ConfigError: fewer than two windows, other shapes, or a value that is not finite.
    """
    mean, factor = _gaussian(first, "first")
    other_mean, other_factor = _gaussian(second, "second")
    if len(mean) != len(other_mean):
        raise ConfigError(
            f"features of {len(mean)} and of {len(other_mean)} numbers cannot be compared: "
            "take both from the same autoencoder"
        )
    root_trace = np.linalg.svd(factor.T @ other_factor, compute_uv=False).sum()
    gap = mean - other_mean
    distance = gap @ gap + (factor**2).sum() + (other_factor**2).sum() - 2.0 * root_trace
    return max(0.0, float(distance))


def _gaussian(features: AnyFloat, which: str) -> tuple[F64, F64]:
    """Mean (d,) and a factor (d, d) of the covariance of (n, d) features."""
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise ConfigError(
            f"the {which} set of features has the shape {values.shape}: "
            "a Frechet distance needs at least 2 windows in rows"
        )
    if not np.isfinite(values).all():
        raise ConfigError(f"the {which} set of features holds a number that is not finite")
    mean = values.mean(axis=0)
    spread = (values - mean) / np.sqrt(len(values) - 1)
    power, axes = np.linalg.eigh(spread.T @ spread)
    return mean, axes * np.sqrt(np.maximum(power, 0.0))


def diversity(features: AnyFloat, seed: int = 0, pairs: int = DIVERSITY_PAIRS) -> float:
    """Mean L1 distance of random pairs of different windows (HA2G, CVPR 2022).

    Args:
        features: (n, features), n >= 2.
        seed: chooses the pairs.
        pairs: how many.

    Raises:
        ConfigError: fewer than two windows.
    """
    values = np.asarray(features, dtype=np.float64)
    if len(values) < 2:
        raise ConfigError(f"diversity needs at least 2 windows, there are {len(values)}")
    rng = np.random.default_rng(seed)
    one = rng.integers(0, len(values), pairs)
    other = (one + rng.integers(1, len(values), pairs)) % len(values)
    return float(np.abs(values[one] - values[other]).sum(axis=1).mean())


# --- beats


def angle_change(poses: AnyFloat, skeleton: Skeleton) -> F64:
    """How fast the angles between bones change, relative to the data set.

    The mean direction is added back first: angles between differences from the mean are not
    angles of the body.

    Args:
        poses: (..., frames, 3 * bones).
        skeleton: of the data set.

    Returns:
        (..., frames): mean over the pairs of |change of angle / pi| / the data set's mean change.
        The first frame is 0.
    """
    vectors = np.asarray(poses, dtype=np.float64).reshape(*poses.shape[:-1], -1, 3)
    vectors = vectors + skeleton.mean_direction
    if skeleton.palm_normals:
        one, other = np.array(skeleton.palm_normals).T
        palms = np.cross(vectors[..., one, :], vectors[..., other, :])
        vectors = np.concatenate((vectors, palms), axis=-2)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    one, other = np.array(skeleton.angle_pairs).T
    cosine = (vectors[..., one, :] * vectors[..., other, :]).sum(axis=-1)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi  # (..., frames, pairs)
    change = np.abs(np.diff(angle, axis=-2)) / skeleton.angle_mean_change
    curve = np.zeros(poses.shape[:-1])
    curve[..., 1:] = change.mean(axis=-1)
    return curve


def motion_beats(curve: AnyFloat) -> npt.NDArray[np.bool_]:
    """The frames where the motion pauses.

    A beat is a frame whose value is below both neighbours, and below at least one of them by
    ``BEAT_DROP``. Frame 1 cannot be one: frame 0 is 0 by definition, not by measurement.

    Args:
        curve: (..., frames) from ``angle_change``.

    Returns:
        (..., frames) bool; only frames 2 to frames - 2 can be true.
    """
    before = curve[..., 1:-2] - curve[..., 2:-1]
    after = curve[..., 3:] - curve[..., 2:-1]
    beats = np.zeros(curve.shape, dtype=np.bool_)
    beats[..., 2:-1] = (before > 0) & (after > 0) & (np.maximum(before, after) >= BEAT_DROP)
    return beats


def audio_onsets_s(audio: F32) -> F64:
    """Times of the onsets in (samples,) of 16 kHz sound, librosa's onset_detect at its defaults."""
    import librosa

    if not audio.any():  # digital silence: librosa would divide by its maximum
        return np.zeros(0)
    found = librosa.onset.onset_detect(y=audio, sr=SAMPLE_RATE_HZ, units="time")
    return np.asarray(found, dtype=np.float64)


def beat_scores(poses: AnyFloat, onsets_s: Sequence[F64], skeleton: Skeleton) -> F64:
    """Beat consistency of each window (HA2G, CVPR 2022).

    Args:
        poses: (windows, 34, 3 * bones).
        onsets_s: the onsets of each window's sound, from the window's start.
        skeleton: of the data set.

    Returns:
        (windows,) mean over the onsets of exp(-d^2 / (2 * 0.1^2)), d being the time to the
        nearest motion beat; NaN for a window without a motion beat or without an onset.
    """
    beats = motion_beats(angle_change(poses, skeleton))
    scores = np.full(len(poses), np.nan)
    for window, onsets in enumerate(onsets_s):
        times = np.flatnonzero(beats[window]) / POSE_FPS
        if len(times) and len(onsets):
            gap = np.abs(onsets[:, None] - times).min(axis=1)
            scores[window] = np.exp(-(gap**2) / (2.0 * BEAT_SIGMA_S**2)).mean()
    return scores


def mean_score(scores: F64) -> float:
    """Mean over the windows that have a score; NaN where none has."""
    valid = scores[~np.isnan(scores)]
    return float(valid.mean()) if len(valid) else float("nan")


# --- smoothness


def positions_m(poses: AnyFloat, skeleton: Skeleton) -> F64:
    """(..., 3 * bones) poses to (..., joints, 3) positions, the first joint at zero."""
    vectors = np.asarray(poses, dtype=np.float64).reshape(*poses.shape[:-1], -1, 3)
    vectors = vectors + skeleton.mean_direction
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    positions = np.zeros((*poses.shape[:-1], skeleton.joint_count, 3))
    for bone, (parent, child) in enumerate(skeleton.bones):
        step = skeleton.lengths_m[bone] * vectors[..., bone, :]
        positions[..., child, :] = positions[..., parent, :] + step
    return positions


def jerk_m_s3(positions: F64) -> F64:
    """(..., frames, joints, 3) positions to (..., frames - 3, joints - 1) jerk.

    The third difference of the positions; the first joint is left out, as it does not move.
    """
    jerk: F64 = np.linalg.norm(np.diff(positions, n=3, axis=-3), axis=-1)[..., 1:] * POSE_FPS**3
    return jerk


def wrist_speed_m_s(positions: F64, skeleton: Skeleton) -> F64:
    """(..., frames, joints, 3) positions to (..., frames - 1) mean speed of the two wrists."""
    wrists = positions[..., list(skeleton.wrists), :]
    speed: F64 = np.linalg.norm(np.diff(wrists, axis=-3), axis=-1).mean(axis=-1) * POSE_FPS
    return speed


def seam_error(clips: Iterable[F64]) -> float:
    """Change of velocity where windows were joined, relative to everywhere else.

    Windows start every 30 poses and the 4 poses they share are cross-faded, so a change of
    velocity centred on the frames -1 to 4 from a border mixes an old and a new window.

    Args:
        clips: (frames, joints, 3) positions of each long clip.

    Returns:
        Mean change at all borders over mean change elsewhere; 1 where there is no seam, NaN where
        there is no border or nothing moves.
    """
    seams, others = [np.zeros(0)], [np.zeros(0)]
    for positions in clips:
        if len(positions) < 3:
            continue
        change = np.linalg.norm(np.diff(positions, n=2, axis=0), axis=-1)[:, 1:].mean(axis=1)
        centre = np.arange(1, len(positions) - 1)
        last_border = STRIDE_FRAMES * ((len(positions) - SEED_FRAMES - 1) // STRIDE_FRAMES)
        after = (centre + 1) % STRIDE_FRAMES  # 0 on the frame before a border
        within = (centre >= STRIDE_FRAMES - 1) & (centre <= last_border + SEED_FRAMES)
        seam = (after <= SEED_FRAMES + 1) & within
        seams.append(change[seam])
        others.append(change[~seam])
    at_borders, elsewhere = np.concatenate(seams), np.concatenate(others)
    if not len(at_borders) or not elsewhere.any():
        return float("nan")
    return float(at_borders.mean() / elsewhere.mean())
