"""From a sound at the microphone to the first frame on the wire that moves because of it.

    python -m ha2g_live.benchmarks.response [--onsets 200] [--mic N] [--published N]
                                            [--json FILE] [--plot FILE] [FILE ...]

The program that users run is started for each onset and hears silence, then, from sample t0 on,
speech. Other runs hear silence alone. Up to t0 all hear the same, so the first frame whose pose
differs from the silent ones' at the same moment of the stream differs because of the speech. The
time from the capture of sample t0 until that frame has come out of a WebSocket, read by another
process, is the response. The program's own trace (``--trace``) says where that time went.

Two runs are never equal to the last bit: frames fall at other moments of the stream, and a
prediction reaches the curve a little sooner or later. So a run is held against the nearest of
several silent ones, joint by joint, and a joint counts as moved when it is off by more than twice
the most it was off in the 0.3 s before t0, and by more than any silent run is from its nearest
one, three frames in a row. How often that happens by chance is measured too: made-up onsets in
every silent run, held against the others.
Breathing and glances follow the loudness of the voice at once; they are switched off
(``--life 0``), so that only the model's motion counts.

With ``--mic N`` also N onsets through a real PortAudio input: a sound server plays the voice into
the program's microphone, and another reader of that microphone, which asks for blocks of 5 ms,
tells when it arrived there. With ``--core N`` the program may use that processor core only.
``--published N`` also measures N onsets of HA2G as published: windows of 34 frames every 30,
PyTorch, drawn weights.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.benchmarks.interleaved import machine_line, write_json
from ha2g_live.benchmarks.response_moved import (
    Quiet,
    limits,
    moved_after_ms,
    moved_at,
)
from ha2g_live.benchmarks.response_run import Bench, Seen
from ha2g_live.benchmarks.response_stages import STAGES, split_ms
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.stats import machine
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32

QUIET_S, VOICE_S, SPREAD_S = 1.2, 0.8, 0.2
PUBLISHED_S = (3.0, 6.0, 2.0)
"""The same of the published way, whose windows are two seconds apart and shown as much later."""
MORE_DEG = (0.25, 0.5, 1.0, 2.0)
"""Larger differences whose times are given too."""
SILENT_RUNS = 6
RESPONSE = "**the first frame that differs, received**"
PARTS = ("live", "through PortAudio", "published")
_ONSET_RATIO_DB = -30.0
_FRAME = SAMPLE_RATE_HZ // 100


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


class Figures:
    """Times of many onsets, added one by one.

    Args:
        silent: runs that heard nothing.
        recordings: how many voices there are.
    """

    def __init__(self, silent: list[Seen], recordings: int) -> None:
        self._recordings = recordings
        self._quiet = Quiet(silent)
        self._rows: dict[str, list[float]] = {RESPONSE: []}
        self._rows |= {name: [] for name in (*STAGES, *map(_moved_row, MORE_DEG))}
        self._noise_deg: list[float] = []
        self._by_chance = 0
        self._runs: list[Seen] = []

    def add(self, seen: Seen, captured_s: float, t0: int) -> None:
        """One more run, whose sound came at ``captured_s`` as sample ``t0``."""
        self._runs.append(seen)
        apart = self._quiet.apart(seen)
        limit_deg = limits(seen, apart, captured_s, self._quiet.most_deg())
        self._noise_deg.append(float(limit_deg.max()))
        self._rows[RESPONSE].append(moved_after_ms(seen, apart, captured_s, limit_deg))
        for deg in MORE_DEG:
            wide_deg = np.maximum(limit_deg, deg)
            self._rows[_moved_row(deg)].append(moved_after_ms(seen, apart, captured_s, wide_deg))
        moved = moved_at(seen, apart, captured_s, limit_deg)
        if moved is not None:
            parts = split_ms(seen, captured_s, t0, moved)
            self._by_chance += parts is None
            for name, took_ms in zip(STAGES, parts or (), strict=False):
                self._rows[name].append(took_ms)

    def report(self) -> dict[str, Any]:
        """All figures as plain values."""
        stats = [seen.stats for seen in self._runs]
        return {
            "onsets": len(self._runs),
            "recordings": self._recordings,
            "motion_behind_sound_ms": round(float(np.median([s["model_delay_ms"] for s in stats]))),
            "noise_deg": {
                "p50": round(float(np.median(self._noise_deg)), 4),
                "most": round(max(self._noise_deg), 4),
            },
            "by_chance": self._quiet.by_chance(),
            "moved_before_heard": self._by_chance,
            "milliseconds": {name: percentiles(values) for name, values in self._rows.items()},
            "response_ms": [round(value, 2) for value in self._rows[RESPONSE]],
            "program": {
                "step_ms_p50": float(np.median([s["step"]["p50_ms"] for s in stats])),
                "start_to_first_frame_s": round(
                    float(np.median([seen.start_s for seen in self._runs])), 2
                ),
                "rss_mb": round(max(s["memory"]["rss_peak_mib"] for s in stats) * 1.048576),
            },
        }


def _moved_row(deg: float) -> str:
    return f"some joint off by {deg:g} degrees"


def measure(bench: Bench, clips: list[F32], count: int, say: str) -> dict[str, Any]:
    """All figures of ``count`` onsets.

    Raises:
        ConfigError: no voice sets in anywhere.
    """
    rng = np.random.default_rng(0)
    places = places_of(clips)
    figures = Figures([bench.silent() for _ in range(SILENT_RUNS)], len(clips))
    for n in range(count):
        clip, at = places[n % len(places)]
        # The onset falls anywhere between two steps, two columns and two frames.
        t0 = int((bench.quiet_s + rng.uniform(0.0, bench.spread_s)) * SAMPLE_RATE_HZ)
        seen = bench.trial(clip[at:], t0)
        figures.add(seen, seen.first_sample_s + t0 / SAMPLE_RATE_HZ, t0)
        progress(say, n + 1, count)
    return figures.report()


def places_of(clips: list[F32]) -> list[tuple[F32, int]]:
    """Where voices set in: the first onset of every recording, then their second ones, and so on.

    Raises:
        ConfigError: nowhere.
    """
    found = [[(clip, at) for at in onsets(clip)] for clip in clips]
    most = max((len(each) for each in found), default=0)
    places = [each[k] for k in range(most) for each in found if k < len(each)]
    if not places:
        raise ConfigError("no voice sets in anywhere in these recordings: name others")
    return places


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
    for name in PARTS:
        if name not in report:
            continue
        part = report[name]
        chance = part["by_chance"]
        lines += [
            f"{name}: {part['onsets']} onsets, {part['recordings']} recordings; a joint "
            f"counts as moved beyond {part['noise_deg']['p50']} degrees (the most restless one, "
            f"median run); in silence {chance['answered']} of {chance['tried']} made-up onsets "
            f"seem to be answered within 100 ms; {part['moved_before_heard']} moved before the "
            "sound was heard",
            "",
            "| ms from the sound at the microphone | p50 | p95 | p99 | not within the run |",
            "|---|---|---|---|---|",
        ]
        for row, values in part["milliseconds"].items():
            shown = " | ".join(
                "-" if values[p] is None else f"{values[p]}" for p in ("p50", "p95", "p99")
            )
            lines.append(f"| {'· ' if row in STAGES else ''}{row} | {shown} | {values['never']} |")
        program = part["program"]
        lines += [
            "",
            f"start to first frame {program['start_to_first_frame_s']} s, "
            f"a step {program['step_ms_p50']} ms, memory {program['rss_mb']} MB",
            "",
        ]
    return "\n".join([*lines, machine_line(report["machine"])])


def plot(report: dict[str, Any], out: Path) -> None:
    """How many onsets were answered within so many milliseconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for name in PARTS:
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
        bench = Bench(folder, options.core, (), QUIET_S, VOICE_S, SPREAD_S)
        bench.silent()  # compiles and fills caches
        if options.onsets:
            report["live"] = measure(bench, clips, options.onsets, "live")
            write_json(options.json, report)
        if options.mic:
            from ha2g_live.benchmarks.response_microphone import measure_microphone

            found = measure_microphone(folder, clips, options.mic, options.core)
            report["through PortAudio"] = found
            write_json(options.json, report)
        if options.published:
            from ha2g_live.benchmarks.windows import write_drawn

            model = folder / "drawn"
            model.mkdir()
            write_drawn(model)
            extra = ("--model", str(model), "--engine", "torch", "--hop", "30")
            bench = Bench(folder, options.core, extra, *PUBLISHED_S)
            report["published"] = measure(bench, clips, options.published, "published")
    print(table(report))
    write_json(options.json, report)
    if options.plot:
        plot(report, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
