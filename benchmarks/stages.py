"""Times every stage of the live path, and what could stand in its place, in one run.

    python -m ha2g_live.benchmarks.stages [--json FILE]

Calls of all candidates are interleaved. Figures are medians and percentiles of one call; ratios
are of medians.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ha2g_live.benchmarks.interleaved import Call, measure, ratios, show, write_json
from ha2g_live.clients.encode import frame_bytes, frame_text
from ha2g_live.clients.vmc import VmcEncoder
from ha2g_live.engines import open_engine
from ha2g_live.engines.base import Engine, State, warm_up
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.features import initial_log_mel, log_mel
from ha2g_live.realtime.humanoid import BONE_NAMES, HIPS_REST_M, REST_OFFSETS_M
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.retarget import to_rotations_into
from ha2g_live.realtime.schedule import PoseSchedule
from ha2g_live.realtime.skeleton import MEAN_DIRECTION, normalise
from ha2g_live.realtime.stats import machine
from ha2g_live.realtime.types import PoseChunk, PoseFrame

CALLS = 2000


def engine_call(engine: Engine) -> Call:
    """A closure that runs one step of a stream on noise."""
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1, 1, (1, 3, 128)).astype(np.float32)
    style = engine.spec.style_vector()
    noise = np.zeros((1, engine.spec.noise_size), np.float32)
    warm_up(engine)
    state: list[State] = [engine.spec.initial_state()]

    def call() -> None:
        _, state[0] = engine.step(audio, style, noise, state[0])

    return call


def feature_call() -> Call:
    """One mel column of speech."""
    samples = read_audio(demo_clip())
    states = [initial_log_mel()]
    at = [0]

    def call() -> None:
        start = at[0] % (len(samples) - 512)
        _, states[0] = log_mel(samples[start : start + 512], states[0])
        at[0] += 512

    return call


def schedule_calls() -> tuple[Call, Call]:
    """Merging a prediction, and sampling a frame."""
    schedule = PoseSchedule()
    rng = np.random.default_rng(0)
    poses = normalise(MEAN_DIRECTION + 0.05 * rng.standard_normal((64, 3, 42, 3)))
    frame = [0]

    def merge() -> None:
        frame[0] += 1
        schedule.sample(frame[0] / 15)
        schedule.merge(PoseChunk(frame[0] + 1, poses[frame[0] % 64], 0, 0.0, 0.0))

    def sample() -> None:
        schedule.sample(frame[0] / 15 + 0.02)

    return merge, sample


def example_frame() -> PoseFrame:
    """A frame of the mean pose."""
    directions = normalise(MEAN_DIRECTION)
    rotations = np.empty((len(BONE_NAMES), 4), np.float32)
    to_rotations_into(directions, rotations)
    return PoseFrame(0, 0.0, directions, rotations, HIPS_REST_M)


def osc_library_call(frame: PoseFrame) -> Call:
    """The same bone messages built with python-osc."""
    from pythonosc.osc_message_builder import OscMessageBuilder

    def call() -> None:
        for name, offset, rotation in zip(BONE_NAMES, REST_OFFSETS_M, frame.rotations, strict=True):
            builder = OscMessageBuilder("/VMC/Ext/Bone/Pos")
            builder.add_arg(name)
            for value in (*offset, *rotation):
                builder.add_arg(float(value), "f")
            builder.build()

    return call


def stages() -> dict[str, Call]:
    """Everything that is timed, by name."""
    frame = example_frame()
    out = np.empty_like(frame.rotations)
    encoder = VmcEncoder()
    merge, sample = schedule_calls()
    calls: dict[str, Call] = {
        "features: one mel column": feature_call(),
        "model: one step, onnx": engine_call(open_engine("onnx")),
        "schedule: merge a prediction": merge,
        "schedule: sample a frame": sample,
        "retarget: one frame": lambda: to_rotations_into(frame.directions, out),
        "VMC: encode a frame": lambda: encoder.encode(frame, 1.0),
        "VMC: 55 bones, python-osc": osc_library_call(frame),
        "WebSocket: encode binary": lambda: frame_bytes(frame),
        "WebSocket: encode JSON": lambda: frame_text(frame),
    }
    try:
        calls["model: one step, torch"] = engine_call(open_engine("torch"))
    except MissingExtra as error:
        print(f"not run: {error}", file=sys.stderr)
    return calls


RATIOS = (
    ("model: one step, torch", "model: one step, onnx"),
    ("VMC: 55 bones, python-osc", "VMC: encode a frame"),
    ("WebSocket: encode JSON", "WebSocket: encode binary"),
)


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.stages",
        description="Time every stage of the live path.",
    )
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(argv)
    count = max(20, options.calls)
    figures = measure(stages(), count, unit_s=1e-6, warm_ups=20)
    report = {
        "machine": machine(),
        "calls": count,
        "microseconds": figures,
        "ratios": ratios(figures, RATIOS),
    }
    show(report, "microseconds")
    write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
