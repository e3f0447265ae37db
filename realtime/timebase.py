"""Stream time in integers: samples, mel columns, pose frames.

Everything counts from the first sample of a stream. Seconds appear only where a person reads them
or where the wall clock paces output.

Pose frame ``n`` stands at ``n / 15`` seconds. The model runs its step ``n`` once the audio before
that time has been heard, and answers with the poses of frames ``n + 1 .. n + FRAMES_AHEAD``.
"""

from __future__ import annotations

SAMPLE_RATE_HZ = 16_000
POSE_FPS = 15
"""Poses a second of HA2G and of the TED data sets."""

HOP_SAMPLES = 512
FFT_SAMPLES = 1024
MEL_BANDS = 128
COLUMNS_PER_STEP = 3
"""Mel columns given to one model step.

15 poses a second and 31.25 columns a second do not divide: between two steps lie 2 or 3 new
columns. A step always takes the newest three, so every column is seen and the shape is fixed.
"""
FRAMES_AHEAD = 3
"""Pose frames that one step predicts past the audio it has heard (200 ms)."""


def samples_heard_at(frame: int) -> int:
    """Samples that must have been heard before step ``frame`` may run (rounded up)."""
    return -(-frame * SAMPLE_RATE_HZ // POSE_FPS)


def columns_complete(samples: int) -> int:
    """Mel columns whose last sample is among the first ``samples`` samples."""
    return samples // HOP_SAMPLES


def newest_step(samples: int) -> int:
    """Index of the newest model step that ``samples`` samples allow (0 when nothing was heard)."""
    return samples * POSE_FPS // SAMPLE_RATE_HZ
