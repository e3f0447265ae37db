"""What the planner hears: where speech runs, where it pauses, which syllables stand out.

Offline, on recordings (the live network hears mel columns only). Frames are 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

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
_RESET_SEMITONES = 3.0
_USUAL_ONSET, _ONSET_SPREAD = 2.2, 1.2  # of librosa's onset strength in read speech
_FAST = float(np.exp(-1 / (0.08 * FRAME_HZ)))
_SLOW = 1 / (2.0 * FRAME_HZ)

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
        onsets: acoustic onsets inside speech, syllables mostly, in order of time.
        resets: seconds at which the pitch begins anew inside a phrase, without a pause.
        level_db: 100 a second, level over the running mean of the voice, both as heard by then;
            zero in silence.
    """

    phrases: tuple[tuple[float, float], ...]
    peaks: tuple[Peak, ...]
    onsets: tuple[Peak, ...] = ()
    resets: tuple[float, ...] = ()
    level_db: F64 = field(default_factory=lambda: np.zeros(0))


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
    pitch = _pitch(samples, len(energy_db))
    return Prosody(
        phrases,
        _peaks(energy_db, voice, pitch),
        _onsets(samples, voice),
        _resets(pitch, voice),
        _level_db(energy_db, voice),
    )


def _onsets(samples: F32, voice: npt.NDArray[np.bool_]) -> tuple[Peak, ...]:
    """Onsets with their strength in standard deviations of read speech."""
    import librosa

    strength = librosa.onset.onset_strength(y=samples, sr=SAMPLE_RATE_HZ, hop_length=_HOP)
    found = librosa.onset.onset_detect(
        onset_envelope=strength, sr=SAMPLE_RATE_HZ, hop_length=_HOP, units="frames"
    )
    found = found[voice[np.minimum(found, len(voice) - 1)]]
    if not len(found):
        return ()
    scores = (strength[found].astype(float) - _USUAL_ONSET) / _ONSET_SPREAD
    return tuple(Peak(int(f) / FRAME_HZ, float(s)) for f, s in zip(found, scores, strict=True))


def _resets(pitch: F64, voice: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Where the pitch of half a second lies clearly over that of the half second before."""
    voiced = np.where(voice & (np.abs(pitch) > 1e-6), pitch, np.nan)
    half = FRAME_HZ // 2
    step = FRAME_HZ // 10
    found: list[float] = []
    for at in range(half, len(pitch) - half, step):
        before, after = voiced[at - half : at], voiced[at : at + half]
        if min(np.isfinite(before).sum(), np.isfinite(after).sum()) < half // 2:
            continue
        rise = np.nanmedian(after) - np.nanmedian(before)
        if rise >= _RESET_SEMITONES and (not found or at / FRAME_HZ - found[-1] > 1.0):
            found.append(at / FRAME_HZ)
    return tuple(found)


def _level_db(energy_db: F64, voice: npt.NDArray[np.bool_]) -> F64:
    """Level of the last tenth of a second over that of the last seconds of speech."""
    fast = lfilter([1 - _FAST], [1, -_FAST], np.maximum(energy_db, -70.0))
    slow = np.empty_like(fast)
    mean = float(np.median(energy_db[voice]))
    for at, (now, speaks) in enumerate(zip(energy_db.tolist(), voice.tolist(), strict=True)):
        if speaks:
            mean += (now - mean) * _SLOW
        slow[at] = mean
    held = lfilter([1 - _FAST], [1, -_FAST], voice.astype(float))
    return np.asarray(held * np.clip(fast - slow, -12.0, 12.0))


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
