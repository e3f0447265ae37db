"""Stand-ins for what a test cannot have: a clock to turn, a microphone, a trained model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from ha2g_live.engines.base import ModelSpec, State, Stepping
from ha2g_live.realtime.skeleton import BONE_COUNT, MEAN_DIRECTION, normalise
from ha2g_live.realtime.timebase import FRAMES_AHEAD, POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import (
    F32,
    AudioBlock,
    ClientStats,
    PoseFrame,
    StreamInfo,
)

ECHO_SPEC = ModelSpec(
    name="echo",
    version="1",
    styles=("calm", "lively"),
    choices=("idle:rest", "beat"),
    state={"step": (1,), "level": (1,)},
)


class FakeClock:
    """A clock that moves only when it is told to or slept on.

    Args:
        overshoot_s: how late each sleep returns.
    """

    def __init__(self, overshoot_s: float = 0.0) -> None:
        self.time_s = 1000.0
        self.overshoot_s = overshoot_s

    def now_s(self) -> float:
        return self.time_s

    def sleep_until(self, moment_s: float) -> None:
        if moment_s > self.time_s:
            self.time_s = moment_s + self.overshoot_s


class EchoEngine(Stepping):
    """A model in four lines: the arms swing with time, the wider the louder the sound.

    It forecasts its own future exactly as long as the level does not change, as a good model would.

    Args:
        fail_at: step that raises RuntimeError.
        step_s: how long a step takes.
    """

    def __init__(self, fail_at: int | None = None, step_s: float = 0.0) -> None:
        self.fail_at = fail_at
        self.step_s = step_s
        self.warming_steps = 3
        self.calls = 0
        self.closed = False

    @property
    def spec(self) -> ModelSpec:
        return ECHO_SPEC

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        self.calls += 1
        step = int(state["step"][0, 0])
        if self.calls > self.warming_steps and step == self.fail_at:
            raise RuntimeError(f"step {step} failed")
        if self.calls > self.warming_steps + 1:  # neither the warm-up nor step 0
            time.sleep(self.step_s)
        level = 0.7 * state["level"] + 0.3 * (1.0 + audio.mean(axis=(1, 2))[:, None])
        frames = step + 1 + np.arange(FRAMES_AHEAD)
        swing = level[0, 0] * np.sin(2.0 * np.pi * 0.7 * frames / POSE_FPS) + 0.02 * noise[0, 1]
        directions = np.broadcast_to(normalise(MEAN_DIRECTION), (1, FRAMES_AHEAD, BONE_COUNT, 3))
        bent = directions + swing[None, :, None, None] * np.array([0.0, 0.3, 0.5])
        new_state = {"step": state["step"] + 1.0, "level": level.astype(np.float32)}
        return normalise(bent.astype(np.float32)), new_state

    def close(self) -> None:
        self.closed = True


class ScriptedSource:
    """Delivers given samples in real time, in blocks of given sizes, then ends.

    Args:
        samples: (n,) float32.
        blocks: block sizes, repeated.
        error: ends the source with this failure instead of in silence.
        endless: repeat the samples until stopped.
    """

    def __init__(
        self,
        samples: F32,
        blocks: Sequence[int] = (320,),
        error: Exception | None = None,
        endless: bool = False,
    ) -> None:
        self._samples = samples
        self._blocks = blocks
        self._error = error
        self._endless = endless
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    name = "script"
    xruns = 0
    bad_samples = 0

    def start(self, on_block: Callable[[AudioBlock], None], on_end: Callable[[], None]) -> None:
        self._thread = threading.Thread(
            target=self._play, args=(on_block, on_end), name="test-source", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def failure(self) -> Exception | None:
        return self._failure

    def _play(self, on_block: Callable[[AudioBlock], None], on_end: Callable[[], None]) -> None:
        start_s, done, turn = time.perf_counter(), 0, 0
        while not self._stop.is_set() and (self._endless or done < len(self._samples)):
            at = done % len(self._samples)
            block = self._samples[at : at + self._blocks[turn % len(self._blocks)]]
            turn += 1
            done += len(block)
            due_s = start_s + done / SAMPLE_RATE_HZ
            time.sleep(max(0.0, due_s - time.perf_counter()))
            on_block(AudioBlock(block.copy(), due_s))
        self._failure = self._error
        on_end()


class ListClient:
    """Keeps what it is sent.

    Args:
        name: its name.
        send_s: how long ``send`` takes, against the contract.
        error: raised by every ``send``.
        start_error: raised by ``start``.
    """

    def __init__(
        self,
        name: str = "list",
        send_s: float = 0.0,
        error: Exception | None = None,
        start_error: Exception | None = None,
    ) -> None:
        self.name = name
        self.stats = ClientStats()
        self.frames: list[PoseFrame] = []
        self.threads: set[str] = set()
        self.info: StreamInfo | None = None
        self.closes = 0
        self._send_s = send_s
        self._error = error
        self._start_error = start_error

    def start(self, info: StreamInfo) -> None:
        self.threads.add(threading.current_thread().name)
        if self._start_error is not None:
            raise self._start_error
        self.info = info

    def send(self, frame: PoseFrame) -> None:
        self.threads.add(threading.current_thread().name)
        if self._error is not None:
            raise self._error
        time.sleep(self._send_s)
        self.frames.append(frame)
        self.stats.sent += 1

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closes += 1


def speech_like(seconds: float, seed: int = 0) -> F32:
    """(n,) float32 noise that swells and fades about four times a second."""
    n = round(seconds * SAMPLE_RATE_HZ)
    time_s = np.arange(n) / SAMPLE_RATE_HZ
    swell = np.clip(np.sin(2.0 * np.pi * 3.7 * time_s), 0.0, None)
    noise = np.random.default_rng(seed).standard_normal(n)
    sound: F32 = (0.2 * swell * noise).astype(np.float32)
    return sound
