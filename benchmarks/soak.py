"""Speech and pauses for minutes, live, with every kind of target: late frames, memory, limits.

    python -m ha2g_live.benchmarks.soak [--minutes 10] [--plot soak.png] [FILE ...]

The recording is made of the given files (the bundled clip when none is given) with pauses of 0.5
to 8 s between them. It runs in real time through the command that users run, which sends OSC to
a socket here, serves a WebSocket viewer here, and records.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ha2g_live.benchmarks.interleaved import machine_line
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import MissingExtra
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32


def make_recording(files: list[Path], minutes: float) -> F32:
    """Files in turn with pauses, for about ``minutes``."""
    rng = np.random.default_rng(0)
    clips = [read_audio(path) for path in files]
    wanted = int(minutes * 60 * SAMPLE_RATE_HZ)
    pieces: list[F32] = []
    length = 0
    while length < wanted:
        clip = clips[len(pieces) // 2 % len(clips)]
        pause = np.zeros(int(rng.uniform(0.5, 8.0) * SAMPLE_RATE_HZ), np.float32)
        pieces += [clip, pause]
        length += len(clip) + len(pause)
    return np.concatenate(pieces)[:wanted]


def run(recording: F32, folder: Path) -> dict[str, Any]:
    """Run the command on a recording; its ``--stats``, and what the viewer counted."""
    audio, stats = folder / "speech.wav", folder / "stats.json"
    soundfile.write(audio, recording, SAMPLE_RATE_HZ)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as probe:
        udp.bind(("127.0.0.1", 0))
        probe.bind(("127.0.0.1", 0))
        web_port = probe.getsockname()[1]
        probe.close()
        command = [
            sys.executable, "-m", "ha2g_live.realtime.cli",
            "--audio", str(audio),
            "--osc", f"127.0.0.1:{udp.getsockname()[1]}",
            "--ws", str(web_port),
            "--record", str(folder / "frames.jsonl"),
            "--stats", str(stats),
        ]  # fmt: skip
        process = subprocess.Popen(command)
        viewer: dict[str, int] = {"frames": 0, "out_of_order": 0}
        watcher = threading.Thread(target=_watch, args=(web_port, viewer), name="soak-viewer")
        watcher.start()
        udp.settimeout(0.5)
        datagrams = 0
        while process.poll() is None:
            try:
                udp.recv(2048)
                datagrams += 1
            except TimeoutError:
                continue
        watcher.join()
    if process.returncode != 0:
        raise SystemExit(process.returncode)
    report: dict[str, Any] = json.loads(stats.read_text(encoding="utf-8"))
    report["received"] = {"osc_datagrams": datagrams, **viewer}
    return report


def _watch(port: int, counts: dict[str, int]) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    viewer = None
    for _ in range(600):
        try:
            viewer = connect(f"ws://127.0.0.1:{port}", compression=None)
            break
        except OSError:
            threading.Event().wait(0.05)
    if viewer is None:
        return
    last = -1
    with viewer:
        while True:
            try:
                message = json.loads(viewer.recv())
            except ConnectionClosed:
                return
            if message["type"] == "frame":
                counts["frames"] += 1
                counts["out_of_order"] += message["seq"] <= last
                last = message["seq"]


def table(report: dict[str, Any]) -> str:
    """The minutes as text."""
    columns = ("end_s", "frames", "late_frames", "starved_frames", "skipped_steps",
               "latency_p95_ms", "rss_mib")  # fmt: skip
    lines = ["".join(f"{name:>16}" for name in columns)]
    lines += ["".join(f"{row[name]:>16}" for name in columns) for row in report["minutes"]]
    for part in ("latency", "step", "lateness", "motion", "memory", "received"):
        lines.append(f"{part}: {report[part]}")
    lines.append(machine_line(report["machine"]))
    return "\n".join(lines)


def plot(report: dict[str, Any], out: Path) -> None:
    """Late frames, latency and memory by minute, as bars.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingExtra("a plot", "pillow", "render") from error
    rows = report["minutes"]
    panels = (
        ("late frames a minute (of 3600)", "late_frames"),
        ("latency p95, ms", "latency_p95_ms"),
        ("memory, MiB", "rss_mib"),
    )
    width, height = 900, 150
    image = Image.new("RGB", (width, height * len(panels)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for panel, (title, key) in enumerate(panels):
        top, values = panel * height, [float(row[key]) for row in rows]
        highest = max(values)
        draw.text((12, top + 6), f"{title}; highest {highest:g}", fill="#333", font=font)
        step = (width - 24) / len(values)
        for i, value in enumerate(values):
            bar = (height - 50) * value / (highest or 1.0)
            left = 12 + i * step
            draw.rectangle(
                (left, top + height - 12 - bar, left + 0.8 * step, top + height - 12),
                fill="#2b6cb0",
            )
    image.save(out)


def main(argv: list[str] | None = None) -> int:
    """Run, print the table, write what was asked for."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.soak",
        description="A long live run with every kind of target.",
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="write all figures here as JSON")
    parser.add_argument("--plot", type=Path, help="write a picture here")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        recording = make_recording(options.files or [demo_clip()], options.minutes)
        report = run(recording, Path(folder))
    print(table(report))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(report, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
