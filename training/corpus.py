"""Builds a corpus: recordings of speech with gestures planned on them.

    ha2g-live corpus --data FOLDER --out corpus --hours 6

``FOLDER`` holds ``speech.csv`` and the recordings it names, ``gestures.csv`` and its clips, and
``idle/``. The corpus is a folder of ``.npz`` files, one for each stream of about a minute and a
half, and ``corpus.json``. It is the same for the same seed.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from ha2g_live.realtime.errors import Ha2gError, MissingExtra
from ha2g_live.realtime.features import initial_log_mel, log_mel
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.catalogue import Catalogue, load_catalogue
from ha2g_live.training.clips import read_table
from ha2g_live.training.planner import STYLES, plan
from ha2g_live.training.prosody import analyse

STREAM_S = 90.0
HELD_OUT_SHARE = 0.08
"""Share of the speakers that no training stream contains."""

_LEVEL_DB = (-36.0, -16.0)  # RMS of speech at the model's ear, drawn per stream
_NOISE_DB = (-85.0, -38.0)
_LEAST_OVER_NOISE_DB = 12.0
_PAUSES_S = ((0.55, 0.1, 0.6), (0.2, 0.6, 1.5), (0.25, 2.0, 12.0))  # chance, shortest, longest
_CLICK_CHANCE = 0.5  # of a pause of 2 s or more


@dataclass(frozen=True, slots=True)
class Recording:
    """A row of ``speech.csv``."""

    path: Path
    speaker: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What one stream is made of; everything else follows from the seed."""

    name: str
    recordings: tuple[Path, ...]
    style: int
    seed: int


def held_out(speaker: str) -> bool:
    """Whether a speaker is kept for validation. Depends on the name alone."""
    return zlib.crc32(speaker.encode()) % 10_000 < HELD_OUT_SHARE * 10_000


def read_speech_table(data: Path) -> list[Recording]:
    """The recordings listed in ``speech.csv``.

    Raises:
        Ha2gError: the table is not there.
    """
    return [
        Recording(data / row["file"], row["speaker"], float(row["duration_s"]))
        for row in read_table(data, "speech.csv")
    ]


def plan_streams(
    recordings: list[Recording], hours: float, seed: int
) -> dict[str, list[StreamPlan]]:
    """Deal recordings into streams of one speaker each, for ``train`` and ``held_out``."""
    rng = np.random.default_rng(seed)
    streams: dict[str, list[StreamPlan]] = {"train": [], "held_out": []}
    by_speaker: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    budget_s = {"train": hours * 3600, "held_out": hours * 3600 * HELD_OUT_SHARE}
    filled_s = {"train": 0.0, "held_out": 0.0}
    while any(filled_s[split] < budget_s[split] for split in streams):
        added = False
        for speaker in rng.permutation(sorted(by_speaker)):
            split = "held_out" if held_out(str(speaker)) else "train"
            if filled_s[split] >= budget_s[split]:
                continue
            added = True
            pool = [by_speaker[speaker][i] for i in rng.permutation(len(by_speaker[speaker]))]
            while pool and filled_s[split] < budget_s[split]:
                chosen: list[Recording] = []
                while pool and sum(r.duration_s for r in chosen) < STREAM_S * 0.7:
                    chosen.append(pool.pop())
                number = len(streams[split])
                streams[split].append(
                    StreamPlan(
                        f"{split}_{number:05d}",
                        tuple(r.path for r in chosen),
                        number % len(STYLES),
                        int(rng.integers(2**31)),
                    )
                )
                filled_s[split] += sum(r.duration_s for r in chosen) * 1.35
        if not added:
            break
    return streams


def make_audio(stream: StreamPlan) -> tuple[F32, F32]:
    """A stream's sound: its recordings with pauses, at some level.

    Returns:
        The voice alone, which the planner hears, and the voice among noise and clicks, which the
        network hears: it has to learn that hands do not move to a fan or a keyboard.
    """
    rng = np.random.default_rng(stream.seed)
    voice = [np.zeros(int(rng.uniform(0.1, 3.0) * SAMPLE_RATE_HZ), np.float32)]
    clicks = [np.zeros_like(voice[0])]
    for path in stream.recordings:
        samples, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE_HZ or samples.ndim != 1:
            raise Ha2gError(f"{path} must be 16 kHz mono, is {rate} Hz: resample it")
        pause = np.zeros(int(_pause_s(rng) * SAMPLE_RATE_HZ), np.float32)
        voice += [samples, pause]
        clicks += [np.zeros_like(samples), _clicks(len(pause), rng)]
    speech = np.concatenate(voice)
    loud = speech[np.abs(speech) > 1e-3]
    rms = float(np.sqrt(np.mean(loud**2))) if len(loud) else 1.0
    level_db = rng.uniform(*_LEVEL_DB)
    speech *= 10 ** (level_db / 20) / rms
    noise_db = min(rng.uniform(*_NOISE_DB), level_db - _LEAST_OVER_NOISE_DB)
    noise = _pink(len(speech), rng) * 10 ** (noise_db / 20)
    heard = np.clip(speech + np.concatenate(clicks) + noise, -1.0, 1.0).astype(np.float32)
    return speech, heard


def _pause_s(rng: np.random.Generator) -> float:
    _, low_s, high_s = _PAUSES_S[int(rng.choice(len(_PAUSES_S), p=[p[0] for p in _PAUSES_S]))]
    return float(rng.uniform(low_s, high_s))


def _clicks(count: int, rng: np.random.Generator) -> F32:
    """Now and then somebody types in a pause."""
    typed = np.zeros(count, np.float32)
    if count > 2 * SAMPLE_RATE_HZ and rng.random() < _CLICK_CHANCE:
        _add_clicks(typed, rng)
    return typed


def _add_clicks(pause: F32, rng: np.random.Generator) -> None:
    """Keyboard-like clicks, two to eight a second."""
    for _ in range(int(rng.uniform(2.0, 8.0) * len(pause) / SAMPLE_RATE_HZ)):
        at = int(rng.integers(0, max(1, len(pause) - 800)))
        length = int(rng.integers(80, 500))
        decay = np.exp(-np.arange(length) / (length / 4))
        click = rng.standard_normal(length) * decay * 10 ** (rng.uniform(-40, -16) / 20)
        pause[at : at + length] += click[: len(pause) - at].astype(np.float32)


def _pink(count: int, rng: np.random.Generator) -> F32:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    pink = np.fft.irfft(spectrum, count)
    return np.asarray(pink / pink.std(), dtype=np.float32)


def build_stream(stream: StreamPlan, out: Path, catalogue: Catalogue) -> str:
    """Write one stream's file; returns its name. A finished file is kept."""
    path = out / f"{stream.name}.npz"
    if path.exists():
        return stream.name
    voice, heard = make_audio(stream)
    frames = len(heard) * POSE_FPS // SAMPLE_RATE_HZ
    planned = plan(analyse(voice), frames, STYLES[stream.style], catalogue, stream.seed)
    columns, _ = log_mel(heard, initial_log_mel())
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            columns=columns.astype(np.float16),
            directions=planned.directions.astype(np.float16),
            choice=planned.choice,
            age=planned.age,
            style=np.int64(stream.style),
        )
    unfinished.replace(path)
    return stream.name


_worker_catalogue: list[Catalogue] = []


def _start_worker(data: Path) -> None:
    _worker_catalogue.append(load_catalogue(data))


def _build_in_worker(stream: StreamPlan, out: Path) -> str:
    return build_stream(stream, out, _worker_catalogue[0])


def build(data: Path, out: Path, hours: float, seed: int = 0, jobs: int = 2) -> None:
    """Build the corpus, or what is missing of it.

    Raises:
        Ha2gError: the data are not what they should be.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingExtra("building a corpus", "tqdm", "train") from error
    catalogue = load_catalogue(data)
    splits = plan_streams(read_speech_table(data), hours, seed)
    streams = [stream for split in splits.values() for stream in split]
    out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(jobs, _start_worker, (data,)) as pool:
        work = pool.imap_unordered(partial(_build_in_worker, out=out), streams)
        for _ in tqdm(work, total=len(streams), unit="stream", desc="corpus"):
            pass
    about = {
        "seed": seed,
        "hours": hours,
        "styles": [style.name for style in STYLES],
        "choices": list(catalogue.names),
        "idle_count": catalogue.idle_count,
        "rest": catalogue.rest.tolist(),
        "streams": {split: [stream.name for stream in plans] for split, plans in splits.items()},
    }
    (out / "corpus.json").write_text(json.dumps(about), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The ``corpus`` command."""
    parser = Parser(prog="ha2g-live corpus", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with speech and clips")
    parser.add_argument("--out", type=Path, default=Path("corpus"), help="folder to write")
    parser.add_argument("--hours", type=float, default=6.0, help="hours of motion (default 6)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args(argv)
    build(options.data, options.out, options.hours, options.seed, options.jobs)
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
