"""The response through a real PortAudio input: part of ``benchmarks.response``."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ha2g_live.benchmarks.response import VOICE_S, Figures, places_of, progress
from ha2g_live.benchmarks.response_run import Bench, Messages, Seen
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

_OPTIONS = ("--mic", "default", "--duration-s", "5")
_LOUD = 1e-3
_SILENT_RUNS = 16
"""More than for files: a stream's start falls anywhere between two of the sound server's blocks."""


class MicrophoneBench:
    """Speaks to the program's microphone through a sound server.

    Args:
        folder: where recordings and statistics go.
        microphone: what ``tests.virtual_microphone`` opened.
        core: processor core the program is bound to; None leaves that to the system.
    """

    def __init__(self, folder: Path, microphone: Any, core: int | None) -> None:
        self._bench = Bench(folder, core)
        self._microphone = microphone
        self._folder = folder

    def silent(self) -> Seen:
        """A run in which nothing is played."""
        return self._bench.run(_OPTIONS, self._environment)

    def trial(self, voice: F32, after_s: float) -> tuple[Seen, float]:
        """A run that is spoken to, and when the voice arrived at the microphone."""
        sound = self._folder / "voice.wav"
        # The first samples are loud: the moment they come is clear.
        soundfile.write(sound, voice[: int(VOICE_S * SAMPLE_RATE_HZ)], SAMPLE_RATE_HZ)
        arrived: list[float] = []
        listener = subprocess.Popen(
            ["parec", "--latency-msec=5", "--raw", "--format=float32le", "--rate=16000",
             "--channels=1"],
            stdout=subprocess.PIPE,
            env=self._environment,
        )  # fmt: skip

        def listen() -> None:
            assert listener.stdout is not None
            while block := os.read(listener.stdout.fileno(), 320):
                now_s = time.perf_counter()
                loud = np.abs(np.frombuffer(block[: len(block) // 4 * 4], dtype="<f4")) > _LOUD
                if not arrived and loud.any():
                    behind = len(loud) - int(np.flatnonzero(loud)[0])
                    arrived.append(now_s - behind / SAMPLE_RATE_HZ)

        def speak(frames: Messages) -> None:
            while not frames:
                time.sleep(0.01)
            time.sleep(after_s)
            self._microphone.play(sound).wait(20)

        hearing = threading.Thread(target=listen)
        hearing.start()
        seen = self._bench.run(_OPTIONS, self._environment, speak)
        listener.terminate()
        hearing.join()
        if listener.stdout is not None:
            listener.stdout.close()
        listener.wait()
        return seen, arrived[0]

    @property
    def _environment(self) -> dict[str, str]:
        environment: dict[str, str] = self._microphone.environment
        return environment


def measure_microphone(folder: Path, clips: list[F32], count: int, core: int | None) -> Any:
    """Figures of ``count`` onsets through PortAudio.

    Raises:
        ConfigError: this is not a checkout with its tests.
    """
    try:
        from tests.virtual_microphone import open_virtual_microphone
    except ImportError as error:
        raise ConfigError("--mic needs the project's tests: run it in the checkout") from error
    rng = np.random.default_rng(1)
    places = places_of(clips)
    with open_virtual_microphone(folder / "microphone") as microphone:
        bench = MicrophoneBench(folder, microphone, core)
        figures = Figures([bench.silent() for _ in range(_SILENT_RUNS)], len(clips))
        for n in range(count):
            clip, at = places[n % len(places)]
            seen, arrived_s = bench.trial(clip[at:], float(rng.uniform(1.5, 1.7)))
            figures.add(seen, arrived_s, _heard_from(seen, arrived_s))
            progress("microphone", n + 1, count)
    return figures.report()


def _heard_from(seen: Seen, arrived_s: float) -> int:
    """The first sample of the block in which the program itself first hears the voice."""
    before = 0
    for end, _, written_s, peak in seen.trace["blocks"]:
        if written_s > arrived_s and peak > _LOUD:
            return before
        before = int(end)
    raise RuntimeError("the program did not hear what was played to its microphone")
