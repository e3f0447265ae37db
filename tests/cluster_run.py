"""A local Ray cluster of two node processes, six speakers, and a replica that is killed.

Run by ``test_cluster.py`` in a process of its own; prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from typing import Any

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    # Else the proxy gives everything to the replica on its own node.
    RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING="0",
    RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING="0",
)

import numpy as np
import ray
from ray import serve
from ray.cluster_utils import Cluster
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ha2g_live.clients.encode import decode
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.cluster import build

SPEAKERS = 6
TOKEN = "secret"


class Speaker:
    """Speaks in real time, connects again when it is cut off, and notes what it got."""

    def __init__(self, number: int, sound: bytes) -> None:
        self.number = number
        self.name = ""
        self.errors: list[str] = []
        self.hellos: list[dict[str, Any]] = []
        self.frames: list[tuple[float, int, float, Any]] = []
        self._sound = sound

    async def run(self, port: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._once(port, stop)
            except (ConnectionClosed, InvalidStatus, OSError, WebSocketException) as error:
                self.errors.append(repr(error))
                await asyncio.sleep(0.2)

    async def _once(self, port: int, stop: asyncio.Event) -> None:
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as line:
            start = {"type": "start", "token": TOKEN, "format": "binary", "seed": self.number,
                     "resume": self.name}  # fmt: skip
            await line.send(json.dumps(start))
            hello = json.loads(await line.recv())
            self.hellos.append({"id": hello["stream_id"], "resumed": hello["resumed"]})
            self.name = hello["stream_id"]
            reading = asyncio.create_task(self._read(line))
            at = (64_000 * self.number) % len(self._sound)
            next_s = time.monotonic()
            try:
                while not stop.is_set():
                    await line.send(self._sound[at : at + 640])
                    at = (at + 640) % (len(self._sound) - 640)
                    next_s += 0.02
                    await asyncio.sleep(max(0.0, next_s - time.monotonic()))
            finally:
                reading.cancel()

    async def _read(self, line: Any) -> None:
        async for message in line:
            if isinstance(message, bytes):
                frame = decode(message)
                self.frames.append(
                    (time.monotonic(), frame.seq, frame.stream_time_s, frame.rotations)
                )


def status(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


async def play(port: int) -> dict[str, Any]:
    clip = read_audio(demo_clip())
    sound = (clip * 32767).astype("<i2").tobytes()
    stop = asyncio.Event()
    speakers = [Speaker(n, sound) for n in range(SPEAKERS)]
    tasks = [asyncio.create_task(speaker.run(port, stop)) for speaker in speakers]
    deadline_s = time.monotonic() + 60
    while not all(len(s.frames) > 60 for s in speakers):
        if time.monotonic() > deadline_s:
            break
        await asyncio.sleep(0.1)
    if not all(speaker.frames for speaker in speakers):
        raise SystemExit(f"no frames came: {[s.errors[-1:] for s in speakers]}")
    # A request goes to whichever replica has less to do, so the others may never answer one.
    seen: dict[str, Any] = {"streams_now": 0}
    deadline_s = time.monotonic() + 60
    while not seen["streams_now"] and time.monotonic() < deadline_s:
        seen = await asyncio.to_thread(status, port)
    victim, streams = seen["pid"], seen["streams_now"]
    killed_s = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    hit_deadline_s = killed_s + 60
    while time.monotonic() < hit_deadline_s:
        await asyncio.sleep(0.2)
        hit = [s for s in speakers if len(s.hellos) > 1]
        if len(hit) >= streams and all(s.frames[-1][0] > killed_s + 2 for s in speakers):
            break
    await asyncio.sleep(3.0)
    stop.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "streams_of_the_killed": streams,
        "speakers": [_report(speaker, killed_s) for speaker in speakers],
    }


def _report(speaker: Speaker, killed_s: float) -> dict[str, Any]:
    received = np.array([frame[0] for frame in speaker.frames])
    stream = np.array([frame[2] for frame in speaker.frames])
    turns = np.array([frame[3] for frame in speaker.frames], dtype=np.float64)
    gap = int(np.argmax(np.diff(received)))
    dots = np.abs((turns[gap] * turns[gap + 1]).sum(axis=-1)).clip(0, 1)
    return {
        "hellos": speaker.hellos,
        "frames_before": int((received < killed_s).sum()),
        "frames_after": int((received > killed_s + 2).sum()),
        "longest_gap_s": float(np.diff(received)[gap]),
        "jump_deg": float(np.degrees(2 * np.arccos(dots)).max()),
        "back_s": float(-np.diff(stream).min()),
        "ahead_s": float(np.diff(stream).max()),
    }


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
        serve.run(build({"replicas": "2", "token": TOKEN, "max_load": "2"}))
        json.dump(asyncio.run(play(port)), sys.stdout)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
