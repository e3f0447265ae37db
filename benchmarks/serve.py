"""Many real WebSocket clients at one server, each speaking in real time, for minutes.

    python -m ha2g_live.benchmarks.serve [--clients 50] [--minutes 10] [--ramp] [--json FILE]

The server is the program that users run, in a process of its own. The clients send 20 ms of 16-bit
sound at a time and read every frame. At the end one client more asks to be let in, and is refused.
With ``--ramp`` there is no fixed number: clients come one after the other until one is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ha2g_live.benchmarks.interleaved import machine_line, write_json
from ha2g_live.clients.encode import decode
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.stats import machine

BLOCK = 320
TOKEN = "benchmark"


class Client:
    """One voice and what came back.

    Attributes:
        frames: frames read.
        missing: frame numbers that never came.
        gaps_s: time between frames, the newest ten thousand.
        refusal: why it was not let in, empty if it was.
    """

    def __init__(self, number: int, sound: bytes) -> None:
        self.frames = 0
        self.missing = 0
        self.gaps_s: list[float] = []
        self.refusal = ""
        self._number = number
        self._sound = sound
        self._last: tuple[int, float] | None = None

    async def run(self, port: int, stop: asyncio.Event, let_in: asyncio.Event) -> None:
        """Speak and read until ``stop``."""
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as connection:
            start = {"type": "start", "token": TOKEN, "format": "binary", "seed": self._number}
            await connection.send(json.dumps(start))
            answer = json.loads(await connection.recv())
            let_in.set()
            if answer["type"] != "hello":
                self.refusal = answer["message"]
                return
            reading = asyncio.create_task(self._read(connection))
            await self._speak(connection, stop)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _speak(self, connection: ClientConnection, stop: asyncio.Event) -> None:
        started_s, sent = time.perf_counter(), 0
        at = 2 * BLOCK * 37 * self._number  # everybody at another place of the recording
        while not stop.is_set():
            at %= len(self._sound) - 2 * BLOCK
            await connection.send(self._sound[at : at + 2 * BLOCK])
            at, sent = at + 2 * BLOCK, sent + 1
            await asyncio.sleep(started_s + sent * 0.02 - time.perf_counter())

    async def _read(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                if not isinstance(message, bytes):
                    continue
                now_s, seq = time.perf_counter(), int.from_bytes(message[8:12], "little")
                if self._last is not None:
                    self.missing += seq - self._last[0] - 1
                    self.gaps_s.append(now_s - self._last[1])
                    del self.gaps_s[:-10_000]
                else:
                    decode(message)  # raises if it is no frame
                self._last = seq, now_s
                self.frames += 1


async def drive(port: int, count: int | None, seconds: float) -> dict[str, Any]:
    """Let clients in, hold them, try one more."""
    clip = read_audio(demo_clip())
    pause = np.zeros(16_000 * 3, dtype=np.float32)
    sound = (np.concatenate((clip, pause)) * 32767).astype("<i2").tobytes()
    stop = asyncio.Event()
    clients: list[Client] = []
    tasks = []
    refusal = ""
    while not refusal and (count is None or len(clients) < count):
        client, let_in = Client(len(clients), sound), asyncio.Event()
        task = asyncio.create_task(client.run(port, stop, let_in))
        await let_in.wait()
        await asyncio.sleep(0.05 if count is not None else 0.3)
        refusal = client.refusal
        if not refusal:
            clients.append(client)
            tasks.append(task)
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(clients)} clients")
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        await asyncio.sleep(1.0)
        if sys.stderr.isatty():
            done_s = time.perf_counter() - began_s
            sys.stderr.write(f"\r{len(clients)} clients, {done_s:.0f} of {seconds:.0f} s ")
    if not refusal:
        one_more = Client(len(clients), sound)
        await one_more.run(port, stop, asyncio.Event())
        refusal = one_more.refusal
    stop.set()
    await asyncio.gather(*tasks)
    gaps_ms = 1e3 * np.concatenate([client.gaps_s for client in clients])
    return {
        "clients": len(clients),
        "frames": sum(client.frames for client in clients),
        "frames_of_the_slowest": min(client.frames for client in clients),
        "missing": sum(client.missing for client in clients),
        "gap_ms": {f"p{p}": round(float(np.percentile(gaps_ms, p)), 1) for p in (50, 95, 99)}
        | {"max": round(float(gaps_ms.max()), 1)},
        "refusal": refusal,
    }


def run(count: int | None, minutes: float, fps: float) -> dict[str, Any]:
    """Start the server, drive it, stop it, read its counters."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        stats = Path(folder) / "stats.json"
        command = [
            sys.executable, "-m", "ha2g_live.realtime.cli", "serve", "--ws", str(port),
            "--token", TOKEN, "--fps", f"{fps:g}", "--stats", str(stats), "--quiet",
        ]  # fmt: skip
        if count is not None:
            # The load decides nothing here: this many are to be held, and one more refused.
            command += ["--max-streams", str(count), "--max-load", "2"]
        server = subprocess.Popen(command)
        try:
            _wait_for(port, server)
            process = psutil.Process(server.pid)
            before = process.cpu_times()
            began_s = time.perf_counter()
            report = asyncio.run(drive(port, count, 60.0 * minutes))
            after = process.cpu_times()
            passed_s = time.perf_counter() - began_s
            report["server_cores"] = round(
                (after.user + after.system - before.user - before.system) / passed_s, 3
            )
            report["server_rss_mb"] = round(process.memory_info().rss / 1e6)
        finally:
            server.terminate()
            server.wait(30)
        report["server"] = json.loads(stats.read_text(encoding="utf-8"))
    return {**report, "minutes": minutes, "fps": fps, "machine": machine()}


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            time.sleep(2.0)  # it listens first, then finds out what a stream costs
            return
        time.sleep(0.1)
    raise SystemExit(server.returncode)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.serve",
        description="Many real clients at one server.",
    )
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--ramp", action="store_true", help="clients until one is refused")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(argv)
    report = run(None if options.ramp else options.clients, options.minutes, options.fps)
    for name, value in report.items():
        if name != "machine":
            print(f"{name}: {value}")
    print(machine_line(report["machine"]))
    write_json(options.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
