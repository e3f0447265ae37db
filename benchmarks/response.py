"""From a sound at the microphone to the first frame on the wire that moves because of it.

    python -m ha2g_live.benchmarks.response [--onsets 200] [--json FILE] [--plot FILE] [FILE ...]

The program that users run is started for each onset and hears silence, then, from sample t0 on,
speech. Another run hears silence alone. Up to t0 both hear the same, so the first frame whose pose
differs from that of the silent run at the same moment of the stream differs because of the speech.
The time from the capture of sample t0 until that frame has come out of a WebSocket, read by another
process, is the response.

Two runs are never equal to the last bit: frames fall at other moments of the stream, and a
prediction reaches the curve a little sooner or later. So a joint counts as moved when it is off by
more than twice the most it was off in this pair in the 0.3 s before t0, and by more than in any
pair of silent runs, three frames in a row. How often that happens by chance is measured too, on
pairs of runs that both hear silence, each against the other pairs.
Breathing and glances follow the loudness of the voice at once; they are switched off
(``--life 0``), so that only the model's motion counts.

With ``--mic N`` also N onsets through a real PortAudio input: a sound server plays the voice into
the program's microphone, and another reader of that microphone, which asks for blocks of 5 ms,
tells when it arrived there. With ``--core N`` the program may use that processor core only.
``--published N`` also measures N onsets of HA2G as published: windows of 34 frames every 30,
PyTorch, drawn weights.
"""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from ha2g_live.benchmarks.interleaved import machine_line, write_json
from ha2g_live.clients.encode import decode
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.sources import BLOCK_SAMPLES
from ha2g_live.realtime.stats import machine
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

F64 = npt.NDArray[np.float64]

QUIET_S, VOICE_S = 1.2, 0.8
MORE_DEG = (0.25, 0.5, 1.0, 2.0)
"""Larger differences whose times are given too."""
SILENT_RUNS = 6
NOISE_S = 0.3
LEAST_DEG = 2e-3
"""No joint counts as moved by less: frames carry single precision."""
_ONSET_RATIO_DB = -30.0
_FRAME = SAMPLE_RATE_HZ // 100


@dataclass(frozen=True)
class Seen:
    """What came over the wire in one run.

    Attributes:
        received_s: (n,) monotonic clock at which each frame was read.
        stream_s: (n,) moment of the stream it shows.
        rotations: (n, 55, 4) unit quaternions.
        first_sample_s: monotonic clock when the first sample was captured.
        stats: the program's own figures.
        start_s: from the start of the program to its first frame.
    """

    received_s: F64
    stream_s: F64
    rotations: F64
    first_sample_s: float
    stats: dict[str, Any]
    start_s: float


def onsets(clip: F32) -> list[int]:
    """Samples at which a voice sets in after at least 0.3 s of quiet, from a recording."""
    frames = clip[: len(clip) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1))
    loud = level > level.max() * 10 ** (_ONSET_RATIO_DB / 20)
    found = []
    quiet = 30
    for k, is_loud in enumerate(loud):
        if is_loud and quiet >= 30:
            found.append(k * _FRAME)
        quiet = 0 if is_loud else quiet + 1
    last = len(clip) - int(VOICE_S * SAMPLE_RATE_HZ)
    return [at for at in found if at <= last]


def watch(
    command: Sequence[str],
    port: int,
    stats: Path,
    environment: dict[str, str] | None = None,
    meanwhile: Callable[[list[tuple[float, bytes | str]]], None] | None = None,
) -> Seen:
    """Run the program and read its frames until it ends.

    Raises:
        SystemExit: the program failed.
    """
    received: list[tuple[float, bytes | str]] = []
    began_s = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    threads = [threading.Thread(target=_read, args=(port, process, received))]
    if meanwhile is not None:
        threads.append(threading.Thread(target=meanwhile, args=(received,)))
    for thread in threads:
        thread.start()
    process.wait()
    for thread in threads:
        thread.join()
    if process.returncode != 0:
        raise SystemExit(process.returncode)
    frames = [(at, decode(m)) for at, m in received if isinstance(m, bytes)]
    report = json.loads(stats.read_text(encoding="utf-8"))
    return Seen(
        received_s=np.array([at for at, _ in frames]),
        stream_s=np.array([frame.stream_time_s for _, frame in frames]),
        rotations=np.array([frame.rotations for _, frame in frames], dtype=np.float64),
        first_sample_s=report["source"]["first_sample_s"],
        stats=report,
        start_s=frames[0][0] - began_s,
    )


def _read(
    port: int, process: subprocess.Popen[bytes], received: list[tuple[float, bytes | str]]
) -> None:
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
                    received.append((time.perf_counter(), message))
            except ConnectionClosed:
                return


def differences(seen: Seen, silent: Seen) -> F64:
    """(n, 55) turn in degrees between a run's joints and the silent run's at that moment."""
    at = np.clip(np.searchsorted(silent.stream_s, seen.stream_s), 1, len(silent.stream_s) - 1)
    before, after = silent.rotations[at - 1], silent.rotations[at]
    span = silent.stream_s[at] - silent.stream_s[at - 1]
    share = (seen.stream_s - silent.stream_s[at - 1]) / np.where(span > 0, span, 1.0)
    near = np.where((before * after).sum(-1, keepdims=True) < 0, -after, after)
    there = before + np.clip(share, 0.0, 1.0)[:, None, None] * (near - before)
    there /= np.linalg.norm(there, axis=-1, keepdims=True)
    there *= np.where((there * seen.rotations).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    chord = np.linalg.norm(seen.rotations - there, axis=-1)
    angles: F64 = np.degrees(4.0 * np.arcsin(np.clip(chord / 2.0, 0.0, 1.0)))
    return angles


class Bench:
    """Runs the program in a folder of its own.

    Args:
        folder: where recordings and statistics go.
        core: processor core the program is bound to; None leaves that to the system.
        extra: more options of the program.
        quiet_s: silence before the voice.
        voice_s: how much of the voice is heard.
    """

    def __init__(
        self, folder: Path, core: int | None, extra: Sequence[str], quiet_s: float, voice_s: float
    ) -> None:
        self.folder = folder
        self.quiet_s, self.voice_s = quiet_s, voice_s
        self._pin = []
        if core is not None:
            if shutil.which("taskset") is None:
                raise ConfigError("--core needs the program taskset: leave --core out")
            self._pin = ["taskset", "-c", str(core)]
        self._extra = list(extra)

    def run(self, samples: F32) -> Seen:
        """One run on a recording."""
        audio = self.folder / "sound.wav"
        soundfile.write(audio, samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        return self.start(("--audio", str(audio)))

    def start(
        self,
        sound: Sequence[str],
        environment: dict[str, str] | None = None,
        meanwhile: Callable[[list[tuple[float, bytes | str]]], None] | None = None,
    ) -> Seen:
        """One run of the program; ``meanwhile`` runs beside it in a thread, given its frames."""
        stats = self.folder / "stats.json"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            *self._pin, sys.executable, "-m", "ha2g_live.realtime.cli", *sound,
            "--ws", str(port), "--life", "0", "--tail-s", "0", "--quiet", "--no-view",
            "--stats", str(stats), *self._extra,
        ]  # fmt: skip
        return watch(command, port, stats, environment, meanwhile)

    def silent(self) -> Seen:
        """A run that hears nothing."""
        length = self.quiet_s + self.voice_s + 0.2
        return self.run(np.zeros(int(length * SAMPLE_RATE_HZ), dtype=np.float32))

    def trial(self, voice: F32, t0: int) -> Seen:
        """A run that hears ``voice`` from sample ``t0`` on."""
        length = int(self.voice_s * SAMPLE_RATE_HZ)
        return self.run(np.concatenate((np.zeros(t0, dtype=np.float32), voice[:length])))


def measure(bench: Bench, clips: list[F32], count: int, say: str) -> dict[str, Any]:
    """All figures of ``count`` onsets."""
    rng = np.random.default_rng(0)
    places = [(clip, at) for clip in clips for at in onsets(clip)]
    if not places:
        raise ConfigError("no voice sets in anywhere in these recordings: name others")
    silent = [bench.silent() for _ in range(SILENT_RUNS)]
    trials = []
    for n in range(count):
        clip, at = places[n % len(places)]
        # The onset falls anywhere between two steps, two columns and two frames.
        t0 = int((bench.quiet_s + rng.uniform(0.0, 0.2)) * SAMPLE_RATE_HZ)
        seen = bench.trial(clip[at:], t0)
        trials.append((t0, seen, differences(seen, silent[n % SILENT_RUNS])))
        progress(say, n + 1, count)
    delays_s = [t.stats["model_delay_ms"] / 1e3 for _, t, _ in trials]
    report: dict[str, Any] = {
        "onsets": count,
        "recordings": len(clips),
        "motion_behind_sound_ms": round(1e3 * float(np.median(delays_s)), 1),
    }
    rows: dict[str, list[float]] = {"response": [], "block": []}
    rows |= {f"moved {deg:g} degrees": [] for deg in MORE_DEG}
    quiet = Quiet(silent)
    noise_deg = []
    for t0, seen, apart in trials:
        captured_s = seen.first_sample_s + t0 / SAMPLE_RATE_HZ
        limit_deg = limits(seen, apart, captured_s, quiet.most_deg())
        noise_deg.append(float(limit_deg.max()))
        for name, deg in (("response", 0.0), *((f"moved {d:g} degrees", d) for d in MORE_DEG)):
            rows[name].append(moved_after_ms(seen, apart, captured_s, np.maximum(limit_deg, deg)))
        rows["block"].append(1e3 * (BLOCK_SAMPLES - t0 % BLOCK_SAMPLES) / SAMPLE_RATE_HZ)
    report["noise_deg"] = {
        "p50": round(float(np.median(noise_deg)), 4),
        "most": round(float(max(noise_deg)), 4),
    }
    report["by_chance"] = quiet.by_chance()
    report["milliseconds"] = {name: percentiles(values) for name, values in rows.items()}
    report["response_ms"] = [round(value, 2) for value in rows["response"]]
    report["program"] = {
        "step_ms_p50": float(np.median([t.stats["step"]["p50_ms"] for _, t, _ in trials])),
        "frame_late_ms_p50": float(
            np.median([t.stats["lateness"]["p50_ms"] for _, t, _ in trials])
        ),
        "start_to_first_frame_s": round(float(np.median([t.start_s for _, t, _ in trials])), 2),
        "core_share": float(np.median([t.stats["core_share"] for _, t, _ in trials])),
        "rss_mb": max(t.stats["memory"]["rss_peak_mib"] for _, t, _ in trials) * 1.048576,
    }
    return report


def limits(seen: Seen, apart: F64, captured_s: float, silent_deg: F64) -> F64:
    """(55,) degrees above which each joint counts as moved.

    Args:
        seen: a run.
        apart: its difference from a silent one.
        captured_s: when the sound came; the moments before tell how restless this pair is.
        silent_deg: (55,) the most silent runs differ by.
    """
    near = (seen.received_s < captured_s) & (seen.received_s >= captured_s - NOISE_S)
    limit: F64 = np.maximum(2.0 * apart[near].max(axis=0, initial=0.0), silent_deg)
    return np.maximum(limit, LEAST_DEG)


def moved_after_ms(seen: Seen, apart: F64, captured_s: float, limit_deg: F64) -> float:
    """Time until the first of three frames in which some joint is beyond its limit; inf if none."""
    beyond = apart > limit_deg
    lasting = (beyond[:-2] & beyond[1:-1] & beyond[2:]).any(axis=1)
    hits = np.flatnonzero(lasting & (seen.received_s[:-2] >= captured_s))
    return 1e3 * float(seen.received_s[hits[0]] - captured_s) if len(hits) else np.inf


class Quiet:
    """Runs that heard silence: how much they differ though nothing was said.

    Args:
        runs: at least three.
    """

    def __init__(self, runs: Sequence[Seen]) -> None:
        self._runs = runs
        self._apart: dict[tuple[int, int], F64] = {}
        for one, other in itertools.permutations(range(len(runs)), 2):
            self._apart[one, other] = differences(runs[one], runs[other])

    def most_deg(self, without: Sequence[int] = ()) -> F64:
        """(55,) the most each joint differs in any pair; ``without`` leaves out some runs."""
        settled = [
            apart[self._runs[one].stream_s > NOISE_S].max(axis=0)
            for (one, other), apart in self._apart.items()
            if one not in without and other not in without
        ]
        most: F64 = np.max(settled, axis=0)
        return most

    def by_chance(self) -> dict[str, int]:
        """How often silence seems to be answered within 100 ms: made-up onsets in every pair."""
        found = tried = 0
        for pair, apart in self._apart.items():
            run = self._runs[pair[0]]
            silent_deg = self.most_deg(without=pair)
            for at_s in np.arange(NOISE_S + 0.3, run.stream_s[-1] - 0.2, 0.1):
                captured_s = run.first_sample_s + at_s
                limit_deg = limits(run, apart, captured_s, silent_deg)
                found += moved_after_ms(run, apart, captured_s, limit_deg) <= 100.0
                tried += 1
        return {"answered": found, "tried": tried}


def percentiles(values: list[float]) -> dict[str, float | None]:
    """Of times in milliseconds, and how many are infinite."""
    found = {f"p{p}": float(np.percentile(values, p, method="higher")) for p in (50, 95, 99)}
    missed = int(np.isinf(values).sum())
    shown: dict[str, float | None] = {
        name: round(value, 1) if np.isfinite(value) else None for name, value in found.items()
    }
    return {**shown, "never": missed}


def progress(say: str, done: int, total: int) -> None:
    """A bar on a terminal."""
    if sys.stderr.isatty():
        filled = 30 * done // total
        bar = "#" * filled + "." * (30 - filled)
        sys.stderr.write(f"\r{say} [{bar}] {done}/{total}" + ("\n" if done == total else ""))


def table(report: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = []
    for name in ("live", "through PortAudio", "published"):
        if name not in report:
            continue
        part = report[name]
        chance = part["by_chance"]
        lines += [
            f"{name}: {part['onsets']} onsets, {part['recordings']} recordings; a joint "
            f"counts as moved beyond {part['noise_deg']['p50']} degrees (the most restless one, "
            f"median pair); in silence {chance['answered']} of {chance['tried']} "
            "made-up onsets seem to be answered within 100 ms",
            "",
            "| ms from the sound at the microphone | p50 | p95 | p99 | not within the run |",
            "|---|---|---|---|---|",
        ]
        for row, values in part["milliseconds"].items():
            title = {"response": "**first frame that differs, received**",
                     "block": "of which: until the block of sound it lies in is complete"}.get(
                row, row)  # fmt: skip
            shown = " | ".join(str(values[p]) if values[p] is not None else "-"
                               for p in ("p50", "p95", "p99"))  # fmt: skip
            lines.append(f"| {title} | {shown} | {values['never']} |")
        lines += ["", f"program: {part['program']}", ""]
    return "\n".join([*lines, machine_line(report["machine"])])


def plot(report: dict[str, Any], out: Path) -> None:
    """How many onsets were answered within so many milliseconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name in ("live", "through PortAudio", "published"):
        if name in report:
            values = np.sort(report[name]["response_ms"])
            axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post", label=name)
    axes.set(xlabel="ms from sound to the first frame that moves", ylabel="share of onsets")
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = Parser(
        prog="python -m ha2g_live.benchmarks.response",
        description="Time from a sound to the first frame that moves because of it.",
    )
    parser.add_argument("files", nargs="*", type=Path, help="recordings (the bundled clip)")
    parser.add_argument("--onsets", type=int, default=200)
    parser.add_argument("--published", type=int, default=0, metavar="N")
    parser.add_argument("--mic", type=int, default=0, metavar="N")
    parser.add_argument("--core", type=int, help="bind the program to this processor core")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--plot", type=Path, help="write a picture here")
    options = parser.parse_args(argv)
    clips = [read_audio(path) for path in options.files or [demo_clip()]]
    report: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = Bench(folder, options.core, (), QUIET_S, VOICE_S)
        bench.silent()  # compiles and fills caches
        if options.onsets:
            report["live"] = measure(bench, clips, options.onsets, "live")
            write_json(options.json, report)
        if options.published:
            from ha2g_live.benchmarks.windows import write_drawn

            model = folder / "drawn"
            model.mkdir()
            write_drawn(model)
            extra = ("--model", str(model), "--engine", "torch", "--hop", "30")
            bench = Bench(folder, options.core, extra, 3.0, 4.5)
            report["published"] = measure(bench, clips, options.published, "published")
        if options.mic:
            from ha2g_live.benchmarks.response_microphone import measure_microphone

            found = measure_microphone(folder, clips, options.mic, options.core)
            report["through PortAudio"] = found
    print(table(report))
    write_json(options.json, report)
    if options.plot:
        plot(report, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
