"""What the planner hears: where speech runs, where it pauses, which syllables stand out.

Offline, on recordings (the live network hears mel columns only). Frames are 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

FRAME_HZ = 100
_HOP = SAMPLE_RATE_HZ // FRAME_HZ
_WINDOW = 400

_VOICE_RANGE_DB = 25.0  # below the recording's 95th percentile counts as silence
_NOISE_SHARE = 0.4
_CLOSE_GAP_S = 0.25
_DROP_BURST_S = 0.12
_PEAK_SPACING_S = 0.30
_PEAK_RISE_DB = 3.0

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Peak:
    """A syllable that stands out.

    Attributes:
        time_s: its loudest moment.
        strength: prominence in standard deviations of the recording's peaks, about -1 to 3.
    """

    time_s: float
    strength: float


@dataclass(frozen=True, slots=True)
class Prosody:
    """Speech of one recording.

    Attributes:
        phrases: (start, end) in seconds of each stretch of speech between pauses of a quarter
            of a second or more.
        peaks: prominent syllables in order of time.
    """

    phrases: tuple[tuple[float, float], ...]
    peaks: tuple[Peak, ...]


def analyse(samples: F32) -> Prosody:
    """Phrases and prominence peaks of a recording (16 kHz mono).

    A peak is a local maximum of smoothed energy that rises at least 3 dB out of its surroundings;
    how much it stands out is its level plus its pitch, both against the recording's own.

    Raises:
        MissingExtra: librosa is not installed.
    """
    energy_db = _energy_db(samples)
    voice = _voice(energy_db)
    if not voice.any():
        return Prosody((), ())
    edges = np.flatnonzero(np.diff(np.concatenate(([0], voice.astype(np.int8), [0]))))
    phrases = tuple((start / FRAME_HZ, end / FRAME_HZ) for start, end in edges.reshape(-1, 2))
    return Prosody(phrases, _peaks(energy_db, voice, _pitch(samples, len(energy_db))))


def _energy_db(samples: F32) -> F64:
    padded = np.pad(samples.astype(float), _WINDOW // 2)
    power = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    return np.asarray(10.0 * np.log10(np.mean(power**2, axis=1) + 1e-9))


def _voice(energy_db: F64) -> npt.NDArray[np.bool_]:
    quiet, strong = np.percentile(energy_db, [10, 95])
    # In a noisy room the floor, not the range of a voice, decides what is silence.
    floor = quiet + _NOISE_SHARE * (strong - quiet)
    loud = np.asarray(energy_db > max(strong - _VOICE_RANGE_DB, floor, -60.0), dtype=np.bool_)
    closed = _fill(loud, False, round(_CLOSE_GAP_S * FRAME_HZ))
    return _fill(closed, True, round(_DROP_BURST_S * FRAME_HZ))


def _fill(mask: npt.NDArray[np.bool_], value: bool, shorter_than: int) -> npt.NDArray[np.bool_]:
    """Turn inner runs of ``value`` shorter than a length into their opposite."""
    filled = np.array(mask)
    edges = np.flatnonzero(np.diff(mask.astype(np.int8))) + 1
    bounds = [0, *edges.tolist(), len(mask)]
    for start, end in pairwise(bounds):
        inner = (start > 0 and end < len(mask)) or value
        if mask[start] == value and end - start < shorter_than and inner:
            filled[start:end] = not value
    return filled


def _pitch(samples: F32, frames: int) -> F64:
    """Pitch in semitones over the recording's median, 0 where there is none."""
    try:
        import librosa
    except ImportError as error:
        raise MissingExtra("building a corpus", "librosa", "train") from error
    hz = librosa.yin(
        samples, fmin=70, fmax=400, sr=SAMPLE_RATE_HZ, frame_length=1024, hop_length=_HOP
    )[:frames]
    hz = np.pad(hz, (0, frames - len(hz)), mode="edge")
    inside = (hz > 75) & (hz < 380)
    if not inside.any():
        return np.zeros(frames)
    return np.where(inside, 12.0 * np.log2(hz / np.median(hz[inside])), 0.0)


def _peaks(energy_db: F64, voice: npt.NDArray[np.bool_], pitch: F64) -> tuple[Peak, ...]:
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    smooth = gaussian_filter1d(np.maximum(energy_db, -60.0), 4)
    found, shape = find_peaks(smooth, prominence=_PEAK_RISE_DB)
    keep = voice[found]
    found, rise = found[keep], shape["prominences"][keep]
    if not len(found):
        return ()
    high = gaussian_filter1d(np.clip(pitch, -12, 12), 4)[found]
    score = _z(smooth[found]) + 0.7 * _z(high) + 0.5 * _z(np.minimum(rise, 20.0))
    chosen: list[int] = []
    for candidate in np.argsort(-score):
        if all(abs(found[candidate] - found[c]) >= _PEAK_SPACING_S * FRAME_HZ for c in chosen):
            chosen.append(int(candidate))
    strength = _z(score[chosen])
    peaks = [
        Peak(float(found[c]) / FRAME_HZ, float(s)) for c, s in zip(chosen, strength, strict=True)
    ]
    return tuple(sorted(peaks, key=lambda peak: peak.time_s))


def _z(values: F64) -> F64:
    return np.asarray((values - values.mean()) / (values.std() + 1e-6))
