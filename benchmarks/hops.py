"""What a shorter hop costs and changes, for an imported model.

    python -m ha2g_live.benchmarks.hops --model FOLDER [--audio FILE] [--style NAME]

One row for each hop: how far the motion is behind the voice, the share of one core that the windows
take, how far a new window is from what was kept of its frames, and how the motion shown at 60 Hz
moves. A model that was not trained for short hops disagrees with itself more, or trembles.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.benchmarks.interleaved import machine_line, write_json
from ha2g_live.engines import open_engine
from ha2g_live.engines.base import warm_up
from ha2g_live.engines.ted import SEED_FRAMES, WINDOW_FRAMES, skeleton
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ModelError
from ha2g_live.realtime.offline import animate
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.skeleton import JOINT_NAMES, joint_positions
from ha2g_live.realtime.stats import machine
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

HOPS = (1, 2, 3, 5, 10, 30)
_FPS = 60.0
_WRISTS = [JOINT_NAMES.index(f"{side}_wrist") for side in ("left", "right")]


class _Watch:
    """Stands before the window model and notes how far each window is from what was kept."""

    def __init__(self, engine: WindowEngine) -> None:
        assert engine.spec.windows is not None
        self._model, self._skeleton = engine.model, skeleton(engine.spec.windows.skeleton)
        self.kept: F32 | None = None
        self.apart_deg: list[float] = []
        self.taken_s = 0.0

    def predict(self, *inputs: F32) -> F32:
        """One window, watched."""
        started_s = time.perf_counter()
        poses = self._model.predict(*inputs)
        self.taken_s += time.perf_counter() - started_s
        if self.kept is not None:
            frames = slice(self.kept.shape[1] - SEED_FRAMES, self.kept.shape[1])
            old = self._skeleton.to_directions(self.kept[:, frames])
            new = self._skeleton.to_directions(poses[:, frames])
            cosine = np.clip((old * new).sum(axis=-1), -1.0, 1.0)
            self.apart_deg.append(float(np.degrees(np.arccos(cosine)).mean()))
        return poses

    def close(self) -> None:
        """Nothing of its own."""


class _Kept(WindowEngine):
    """Tells the watch what is kept of the frames of the next window."""

    def step(self, audio: F32, style: F32, noise: F32, state: dict[str, F32]) -> Any:
        """One window; see ``engines.base.Engine``."""
        assert isinstance(self.model, _Watch)
        self.model.kept = state["history"][:, self.spec.timing.every_frames :]
        return super().step(audio, style, noise, state)


def row(opened: WindowEngine, hop: int, samples: F32, style: str | None) -> dict[str, float]:
    """All figures of one hop."""
    watch = _Watch(opened)
    engine = _Kept(watch, opened.spec, hop)
    motion = animate(samples, engine, fps=_FPS, style=style, tail_s=0.0)
    wrists_m = joint_positions(motion.directions)[:, _WRISTS]
    speed = np.linalg.norm(np.diff(wrists_m, axis=0), axis=-1) * _FPS
    jerk = np.linalg.norm(np.diff(wrists_m, 3, axis=0), axis=-1) * _FPS**3
    return {
        "hop": hop,
        "delay_s": engine.spec.timing.delay_s,
        "core_share": watch.taken_s / (len(samples) / SAMPLE_RATE_HZ),
        # The first windows begin with the rest pose, which no window made.
        "apart_deg": float(np.mean(watch.apart_deg[WINDOW_FRAMES // hop + 1 :] or [np.nan])),
        "wrists_m_s": float(speed.mean()),
        "jerk_m_s3": float(jerk.mean()),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.hops",
        description="What a shorter hop costs and changes.",
    )
    parser.add_argument("--model", type=Path, required=True, help="an imported model")
    parser.add_argument("--audio", type=Path, help="a recording; the bundled clip otherwise")
    parser.add_argument("--style", help="a style of the model")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(argv)
    samples = read_audio(options.audio or demo_clip())
    print(f"{machine_line()}; 1 thread")
    print("hop   behind the voice   of one core   windows apart   wrists m/s   jerk m/s3")
    opened = open_engine("onnx", options.model)
    if not isinstance(opened, WindowEngine):
        raise ModelError(f"{options.model} has no windows to hop: import a published model")
    warm_up(opened)
    rows = []
    for hop in HOPS:
        found = row(opened, hop, samples, options.style)
        rows.append(found)
        print(
            f"{hop:3d} {found['delay_s']:15.2f} s {100 * found['core_share']:11.0f} % "
            f"{found['apart_deg']:13.1f} deg {found['wrists_m_s']:10.2f} "
            f"{found['jerk_m_s3']:11.0f}",
            flush=True,
        )
    write_json(options.json, {"machine": machine(), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
