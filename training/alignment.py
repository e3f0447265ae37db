"""How well movement and voice go together in time.

Speed peaks of the hands fall on the acoustic onsets of real people's speech; speed minima, which
the published beat consistency counts, do not. A score alone says little, as dense beats and dense
onsets meet anyway. So each is set against the same after circular shifts: inside each turn of
speech, which leaves only the timing within talk, and over the whole recording, which mostly
measures that one moves when talking.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ha2g_live.engines.ted import WINDOW_FRAMES, skeleton
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.skeleton import MEAN_DIRECTION
from ha2g_live.realtime.timebase import POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g.metrics import beat_scores, mean_score
from ha2g_live.training.hearing import HOP_S, Heard, hear
from ha2g_live.training.measures import FPS, Curves, motion_curves, peaks
from ha2g_live.training.promptness import ends, starts

F64 = npt.NDArray[np.float64]

SIGMA_S = 0.1
SHIFTS = 4000
LEAST_SHIFT_S = 1.0
LAGS_S = tuple(round(0.01 * n, 2) for n in range(31))
"""How much earlier the peaks are taken when the best lag is searched."""
_LEAST_TURN_S = 3.0  # shorter ones leave hardly a shift of a second either way
_MEAN_OVER_S = 2.0
_CORRELATION_LAGS_S = 0.5
_PEAK_NAMES = (
    "alignment", "z", "score", "chance", "best_alignment", "best_z", "best_lag_s",
    "whole_alignment", "whole_z",
)  # fmt: skip


# --- all of it


def alignment(
    motions: Sequence[F32], voices: Sequence[F32 | Heard], fps: float, seed: int = 0
) -> dict[str, float]:
    """Everything this file measures, pooled over streams.

    Args:
        motions: (frames, 42, 3) directions each, HA2G axes.
        voices: the clean voice of each, 16 kHz, or what ``hear`` made of it.
        fps: rate of the motions.
        seed: chooses the shifts.

    Returns:
        ``alignment``, ``z``, ``score``, ``chance``: onsets against peaks over shifts within turns;
        ``best_alignment``, ``best_z``, ``best_lag_s``: at the lag in 0..0.3 s where it is largest;
        ``whole_alignment``, ``whole_z``: over shifts of the whole recording;
        ``lag_000_ms``, ``lag_010_ms``, ...: the alignment at each lag;
        ``beat_consistency``: the published score;
        ``correlation``, ``correlation_lag_s``, ``correlation_chance``: of speed and onset strength;
        ``onset_to_movement_s``, ``moved_within_250ms``, ``moved_chance``, ``starts``;
        ``below_25_s``, ``below_10_s``, ``rest_s``, ``ends``; ``turns``, ``onsets``.
        What there is nothing of is NaN; a hand that never moves has an infinite time.

    Raises:
        ConfigError: not one voice for each motion, or a motion that is too short.
    """
    if len(motions) != len(voices) or not motions:
        raise ConfigError(
            f"{len(motions)} motions and {len(voices)} voices cannot be aligned: "
            "give one voice for each motion, and at least one"
        )
    heard = [voice if isinstance(voice, Heard) else hear(voice) for voice in voices]
    moved = [motion_curves(motion, fps) for motion in motions]
    rng = np.random.default_rng(seed)
    return {
        **peak_alignment(moved, heard, rng),
        "beat_consistency": beat_consistency(motions, heard, fps),
        **strength_correlation(moved, heard, rng),
        **starts(moved, heard, rng),
        **ends(moved, heard),
        "turns": float(sum(len(h.turns_s) for h in heard)),
        "onsets": float(sum(len(h.onsets_s) for h in heard)),
    }


# --- onsets and speed peaks


def united_peaks_s(speed: F64) -> F64:
    """Times of the speed peaks of both hands in (frames, 2); nearer than 0.1 s counts once."""
    times = np.sort(np.concatenate([peaks(speed[:, hand]) for hand in (0, 1)])) / FPS
    kept: list[float] = []
    for time in times:
        if not kept or time - kept[-1] >= 0.1 - 1e-9:
            kept.append(float(time))
    return np.array(kept)


def shift_table(onsets_s: F64, peaks_s: F64, duration_s: float) -> F64:
    """Sum of the onsets' scores for every circular shift of the peaks, on a grid of 10 ms.

    An onset scores exp(-d^2 / (2 * 0.1^2)), d being the time to the nearest peak around the circle.

    Args:
        onsets_s: in 0..duration_s.
        peaks_s: in 0..duration_s.
        duration_s: of the circle.

    Returns:
        (shifts,): entry ``k`` with all peaks ``k`` hops later.
    """
    hops = max(1, round(duration_s / HOP_S))
    if not len(onsets_s) or not len(peaks_s):
        return np.zeros(hops)
    at = np.unique(np.round(peaks_s / HOP_S).astype(np.int64) % hops)
    around = np.concatenate((at - hops, at, at + hops))
    grid = np.arange(hops)
    right = np.searchsorted(around, grid)
    gap = np.minimum(grid - around[right - 1], around[np.minimum(right, len(around) - 1)] - grid)
    kernel = np.exp(-((gap * HOP_S) ** 2) / (2.0 * SIGMA_S**2))
    comb = np.bincount(np.round(onsets_s / HOP_S).astype(np.int64) % hops, minlength=hops)
    # sum over onsets of kernel[onset - shift]: a circular correlation
    product = np.fft.rfft(comb) * np.conj(np.fft.rfft(kernel))
    return np.asarray(np.maximum(np.fft.irfft(product, hops), 0.0))


def peak_alignment(
    moved: Sequence[Curves], heard: Sequence[Heard], rng: np.random.Generator
) -> dict[str, float]:
    """The alignment entries of ``alignment``, over shifts within turns and of whole recordings."""
    united = [united_peaks_s(curve.speed_m_s) for curve in moved]
    pieces: list[tuple[F64, F64, float, float]] = []
    wholes: list[tuple[F64, F64, float, float]] = []
    for times, curve, voice in zip(united, moved, heard, strict=True):
        length_s = min(voice.duration_s, len(curve.speed_m_s) / FPS)
        wholes.append((voice.onsets_s[voice.onsets_s < length_s], times, 0.0, length_s))
        for first, end in voice.turns_s:
            last = min(end, length_s)
            inside = (voice.onsets_s >= first) & (voice.onsets_s < last)
            if last - first >= _LEAST_TURN_S and inside.any():
                pieces.append((voice.onsets_s[inside], times, first, last - first))
    if not pieces:
        names = [*_PEAK_NAMES, *map(lag_name, LAGS_S)]
        return dict.fromkeys(names, float("nan"))
    draws = rng.random((len(pieces), SHIFTS))
    found = [_over_shifts(pieces, draws, lag_s) for lag_s in LAGS_S]
    best = int(np.argmax([score - chance for score, chance, _ in found]))
    score, chance, z = found[0]
    whole = _over_shifts(wholes, rng.random((len(wholes), SHIFTS)), 0.0)
    return {
        "alignment": score - chance,
        "z": z,
        "score": score,
        "chance": chance,
        "best_alignment": found[best][0] - found[best][1],
        "best_z": found[best][2],
        "best_lag_s": LAGS_S[best],
        "whole_alignment": whole[0] - whole[1],
        "whole_z": whole[2],
        **{lag_name(s): f[0] - f[1] for s, f in zip(LAGS_S, found, strict=True)},
    }


def lag_name(lag_s: float) -> str:
    """Name of the alignment at a lag."""
    return f"lag_{round(1000 * lag_s):03d}_ms"


def _over_shifts(
    pieces: Sequence[tuple[F64, F64, float, float]], draws: F64, lag_s: float
) -> tuple[float, float, float]:
    """Mean score of all onsets, its mean over the shifts, and z.

    Args:
        pieces: onsets, peaks of the whole stream, first second and duration of each piece.
        draws: (pieces, shifts) in 0..1: where between the least and the largest shift.
        lag_s: how much earlier the peaks are taken.
    """
    observed, count = 0.0, 0
    shifted = np.zeros(draws.shape[1])
    for (onsets, times, first, duration), drawn in zip(pieces, draws, strict=True):
        own = times - lag_s - first
        table = shift_table(onsets - first, own[(own >= 0) & (own < duration)], duration)
        least = round(LEAST_SHIFT_S / HOP_S)
        room = max(1, len(table) - 2 * least + 1)
        observed += float(table[0])
        shifted += table[np.minimum(least + (drawn * room).astype(np.int64), len(table) - 1)]
        count += len(onsets)
    if count == 0:
        return float("nan"), float("nan"), float("nan")
    mean, spread = float(shifted.mean()), float(shifted.std())
    z = (observed - mean) / spread if spread > 1e-9 else 0.0
    return observed / count, mean / count, z


def beat_consistency(motions: Sequence[F32], heard: Sequence[Heard], fps: float) -> float:
    """The published beat consistency over windows of 34 poses; NaN where no window has a beat."""
    scores: list[F64] = [np.zeros(0)]
    body = skeleton("ted_expressive")
    for motion, voice in zip(motions, heard, strict=True):
        count = int(len(motion) / fps * POSE_FPS)
        rows = np.minimum(np.round(np.arange(count) * fps / POSE_FPS), len(motion) - 1)
        poses = (motion[rows.astype(np.int64)] - MEAN_DIRECTION).reshape(count, -1)
        windows = count // WINDOW_FRAMES
        if windows == 0:
            continue
        length_s = WINDOW_FRAMES / POSE_FPS
        onsets = [
            voice.beats_s[(voice.beats_s >= n * length_s) & (voice.beats_s < (n + 1) * length_s)]
            - n * length_s
            for n in range(windows)
        ]
        shape = (windows, WINDOW_FRAMES, poses.shape[-1])
        scores.append(beat_scores(poses[: windows * WINDOW_FRAMES].reshape(shape), onsets, body))
    return mean_score(np.concatenate(scores))


# --- speed and onset strength


def strength_correlation(
    moved: Sequence[Curves], heard: Sequence[Heard], rng: np.random.Generator
) -> dict[str, float]:
    """Correlation of summed wrist speed with onset strength, its lag, and chance.

    The onset strength is smoothed by a Gaussian of 100 ms, and its mean over 2 s is taken off. The
    lag (hands after the voice) is the best within half a second. Chance is the 95th percentile of
    the same best correlation after shifts of the whole recordings.
    """
    lags = round(_CORRELATION_LAGS_S * FPS)
    least = round(LEAST_SHIFT_S * FPS)
    around = np.arange(-lags, lags + 1)
    observed, power, energy = np.zeros(len(around)), 0.0, 0.0
    shifted = np.zeros((SHIFTS, len(around)))
    for curve, voice in zip(moved, heard, strict=True):
        frames = min(len(curve.speed_m_s), int(len(voice.strength) * HOP_S * FPS))
        if frames <= 2 * (least + lags) or not voice.strength.any():
            continue
        smooth = ndimage.gaussian_filter1d(voice.strength, SIGMA_S / HOP_S)
        smooth = smooth - ndimage.uniform_filter1d(smooth, round(_MEAN_OVER_S / HOP_S))
        sound = np.interp(np.arange(frames) / FPS, np.arange(len(smooth)) * HOP_S, smooth)
        speed = curve.speed_m_s[:frames].sum(axis=1)
        sound, speed = sound - sound.mean(), speed - speed.mean()
        product = np.fft.rfft(speed) * np.conj(np.fft.rfft(sound))
        table = np.fft.irfft(product, frames)  # entry k: speed k frames after the sound
        observed += table[around]
        first = rng.integers(least + lags, frames - least - lags, SHIFTS)
        shifted += table[(first[:, None] + around) % frames]
        power += float(speed @ speed)
        energy += float(sound @ sound)
    scale = np.sqrt(power * energy)
    names = ("correlation", "correlation_at_0", "correlation_lag_s", "correlation_chance")
    if scale < 1e-9:
        return dict.fromkeys(names, float("nan"))
    best = int(np.argmax(observed))
    chance = float(np.percentile(shifted.max(axis=1), 95))
    values = (observed[best] / scale, observed[lags] / scale, around[best] / FPS, chance / scale)
    return dict(zip(names, map(float, values), strict=True))
