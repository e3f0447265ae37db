"""One run of the program for ``benchmarks.response``: started, watched over a WebSocket, traced."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from ha2g_live.clients.encode import decode
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

Messages = list[tuple[float, bytes | str]]
"""What a viewer read, and when on the monotonic clock."""
Meanwhile = Callable[[Messages], None]
"""Runs beside the program, in a thread, given what its viewer has read so far."""


@dataclass(frozen=True)
class Seen:
    """What came over the wire in one run, and what the program says of it.

    Attributes:
        received_s: (n,) monotonic clock at which each frame was read.
        stream_s: (n,) moment of the stream it shows.
        seq: (n,) its number.
        rotations: (n, 55, 4) unit quaternions.
        first_sample_s: monotonic clock when the first sample was captured.
        stats: the program's own figures.
        trace: when it did what (``realtime.trace``).
        start_s: from the start of the program to its first frame.
    """

    received_s: F64
    stream_s: F64
    seq: npt.NDArray[np.int64]
    rotations: F64
    first_sample_s: float
    stats: dict[str, Any]
    trace: dict[str, Any]
    start_s: float


class Bench:
    """Runs the program in a folder of its own.

    Args:
        folder: where recordings and statistics go.
        core: processor core the program is bound to; None leaves that to the system.
        extra: more options of the program.
        quiet_s: least silence before the voice.
        voice_s: how much of the voice is heard.
        spread_s: the voice sets in up to so much later, which should be a period of the model.

    Raises:
        ConfigError: the program that binds to a core is missing.
    """

    def __init__(
        self,
        folder: Path,
        core: int | None,
        extra: Sequence[str] = (),
        quiet_s: float = 0.0,
        voice_s: float = 0.0,
        spread_s: float = 0.0,
    ) -> None:
        self.folder = folder
        self.quiet_s, self.voice_s, self.spread_s = quiet_s, voice_s, spread_s
        self._pin = []
        if core is not None:
            if shutil.which("taskset") is None:
                raise ConfigError("--core needs the program taskset: leave --core out")
            self._pin = ["taskset", "-c", str(core)]
        self._extra = list(extra)

    def silent(self) -> Seen:
        """A run that hears nothing."""
        length = self.quiet_s + self.spread_s + self.voice_s
        return self._play(np.zeros(int(length * SAMPLE_RATE_HZ), dtype=np.float32))

    def trial(self, voice: F32, t0: int) -> Seen:
        """A run that hears ``voice`` from sample ``t0`` on."""
        length = int(self.voice_s * SAMPLE_RATE_HZ)
        return self._play(np.concatenate((np.zeros(t0, dtype=np.float32), voice[:length])))

    def run(
        self,
        sound: Sequence[str],
        environment: dict[str, str] | None = None,
        meanwhile: Meanwhile | None = None,
    ) -> Seen:
        """One run of the program on what ``sound`` asks for.

        Raises:
            SystemExit: the program failed.
        """
        stats, trace = self.folder / "stats.json", self.folder / "trace.json"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            *self._pin, sys.executable, "-m", "ha2g_live.realtime.cli", *sound,
            "--ws", str(port), "--life", "0", "--tail-s", "0", "--quiet", "--no-view",
            "--stats", str(stats), "--trace", str(trace), *self._extra,
        ]  # fmt: skip
        began_s = time.perf_counter()
        messages = _watched(command, port, environment, meanwhile)
        frames = [(at, decode(m)) for at, m in messages if isinstance(m, bytes)]
        report = json.loads(stats.read_text(encoding="utf-8"))
        return Seen(
            received_s=np.array([at for at, _ in frames]),
            stream_s=np.array([frame.stream_time_s for _, frame in frames]),
            seq=np.array([frame.seq for _, frame in frames]),
            rotations=np.array([frame.rotations for _, frame in frames], dtype=np.float64),
            first_sample_s=report["source"]["first_sample_s"],
            stats=report,
            trace=json.loads(trace.read_text(encoding="utf-8")),
            start_s=frames[0][0] - began_s,
        )

    def _play(self, samples: F32) -> Seen:
        audio = self.folder / "sound.wav"
        soundfile.write(audio, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        return self.run(("--audio", str(audio)))


def _watched(
    command: Sequence[str],
    port: int,
    environment: dict[str, str] | None,
    meanwhile: Meanwhile | None,
) -> Messages:
    """All that a viewer reads until the program has ended."""
    messages: Messages = []
    process = subprocess.Popen(command, env=environment)
    threads = [threading.Thread(target=_read, args=(port, process, messages))]
    if meanwhile is not None:
        threads.append(threading.Thread(target=meanwhile, args=(messages,)))
    for thread in threads:
        thread.start()
    process.wait()
    for thread in threads:
        thread.join()
    if process.returncode != 0:
        raise SystemExit(process.returncode)
    return messages


def _read(port: int, process: subprocess.Popen[bytes], messages: Messages) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    while process.poll() is None:
        try:
            viewer = connect(f"ws://127.0.0.1:{port}", compression=None)
        except OSError:
            time.sleep(0.02)
            continue
        with viewer:
            viewer.send(json.dumps({"type": "subscribe", "format": "binary"}))
            try:
                while True:
                    message = viewer.recv()
                    messages.append((time.perf_counter(), message))
            except ConnectionClosed:
                return
