"""Does the motion follow the voice? Speed on speech and at rest, and how soon it answers.

    python -m ha2g_live.benchmarks.motion [FILE ...] [--seeds 10] [--style NAME]

Each recording (the bundled clip when none is given) is run through the model between two silences
of 4 and 8 s, with several seeds. Figures are medians over all runs:

- wrist speed (mean of both, m/s) while the voice speaks and in the silence after it, from 2.5 s on;
- how long after the first sound a wrist exceeds 0.25 m/s;
- how long after the last word both stay below 0.25 and 0.10 m/s;
- rhythm: correlation of wrist speed with loudness, against the same with the loudness shifted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import Engine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.limits import outside
from ha2g_live.realtime.offline import animate
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.skeleton import joint_positions
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

FPS = 60.0
BEFORE_S, AFTER_S = 4.0, 8.0
_MOVING_M_S, _CALM_M_S = 0.25, 0.10
_BACK_AFTER_S = 2.5
_VOICE_RANGE_DB = 25.0

F64 = npt.NDArray[np.float64]


def loudness_db(samples: F32) -> F64:
    """Level of every output frame, dB."""
    hop = int(SAMPLE_RATE_HZ / FPS)
    count = len(samples) // hop
    power = np.square(samples[: count * hop].astype(float)).reshape(count, hop).mean(axis=1)
    return np.asarray(10.0 * np.log10(power + 1e-9))


def spoken_span(samples: F32) -> tuple[float, float]:
    """First and last moment of a voice, seconds."""
    level = loudness_db(samples)
    loud = np.flatnonzero(level > np.percentile(level, 95) - _VOICE_RANGE_DB)
    return float(loud[0] / FPS), float((loud[-1] + 1) / FPS)


def measure(samples: F32, engine: Engine, style: str | None, seed: int) -> dict[str, float]:
    """One run."""
    silence = [np.zeros(int(s * SAMPLE_RATE_HZ), np.float32) for s in (BEFORE_S, AFTER_S)]
    padded = np.concatenate((silence[0], samples, silence[1]))
    motion = animate(padded, engine, fps=FPS, style=style, seed=seed, tail_s=0.0)
    wrists = joint_positions(motion.directions)[:, [6, 7]]
    speed = np.linalg.norm(np.gradient(wrists, axis=0), axis=-1) * FPS
    first_s, last_s = (BEFORE_S + moment for moment in spoken_span(samples))
    time_s = np.arange(len(speed)) / FPS
    fastest = speed.max(axis=1)
    after = time_s > last_s
    began = np.flatnonzero((fastest > _MOVING_M_S) & (time_s > first_s))
    spoken = (time_s > first_s) & (time_s < last_s)
    level = np.maximum(loudness_db(padded), -60.0)[: len(speed)]
    return {
        "spoken m/s": float(speed[spoken].mean()),
        "rest m/s": float(speed[time_s > last_s + _BACK_AFTER_S].mean()),
        "begins s": float(time_s[began[0]] - first_s) if len(began) else np.nan,
        "below .25 s": _until(fastest, after, _MOVING_M_S),
        "below .10 s": _until(fastest, after, _CALM_M_S),
        "rhythm": _correlation(speed.mean(axis=1)[spoken], level[spoken]),
        "rhythm, shifted": float(
            np.mean(
                [
                    _correlation(speed.mean(axis=1)[spoken], np.roll(level[spoken], int(k * FPS)))
                    for k in (1.0, 1.7, 2.3, 3.1)
                ]
            )
        ),
        "beyond human %": 100.0 * float(outside(motion.directions).any(axis=1).mean()),
    }


def _until(speed: F64, after: npt.NDArray[np.bool_], limit: float) -> float:
    """Seconds from the first of ``after`` until the speed stays below a limit for a second."""
    late = speed[after]
    stays = np.convolve(late < limit, np.ones(int(FPS)), mode="valid") >= int(FPS)
    found = np.flatnonzero(stays)
    return float(found[0] / FPS) if len(found) else np.nan


def _correlation(a: F64, b: F64) -> float:
    """Of what is left when the slow part (2 s) of both is taken away."""
    window = np.ones(int(2 * FPS)) / int(2 * FPS)
    left = [x - np.convolve(x, window, mode="same") for x in (a, b)]
    return float(np.corrcoef(left[0], left[1])[0, 1])


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.motion",
        description="Does the motion follow the voice?",
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--style", help="one style; all of them when left out")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args(argv)
    engine = open_engine("onnx", options.model)
    recordings = [read_audio(path) for path in options.files or [demo_clip()]]
    styles = [options.style] if options.style else list(engine.spec.styles)
    header = True
    for style in styles:
        runs = [
            measure(samples, engine, style, seed)
            for samples in recordings
            for seed in range(options.seeds)
        ]
        if header:
            print(f"{len(recordings)} recordings, {options.seeds} seeds, {engine.spec.name} "
                  f"{engine.spec.version}")  # fmt: skip
            print(f"{'':<12}" + "".join(f"{name:>17}" for name in runs[0]))
            header = False
        medians = {name: float(np.nanmedian([run[name] for run in runs])) for name in runs[0]}
        print(f"{style:<12}" + "".join(f"{value:>17.3f}" for value in medians.values()))
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
