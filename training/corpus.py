"""Builds a corpus: recordings of speech with gestures planned on them.

    ha2g-live corpus build --data FOLDER --hours 10

``FOLDER`` holds ``speech.csv`` and the recordings it names, ``gestures.csv`` and its clips, and
``idle/``. The corpus is a folder of ``.npz`` files, one for each stream of about a minute and a
half, and ``corpus.json``. It is the same for the same seed.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from functools import partial
from pathlib import Path

import numpy as np

from ha2g_live.realtime.errors import Ha2gError, MissingExtra
from ha2g_live.realtime.features import initial_log_mel, log_mel
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.timebase import POSE_FPS, SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.catalogue import Catalogue, load_catalogue
from ha2g_live.training.clips import F64
from ha2g_live.training.planner import plan
from ha2g_live.training.prosody import FRAME_HZ, Prosody, analyse
from ha2g_live.training.streams import StreamPlan, make_sound, plan_streams, read_speech_table
from ha2g_live.training.styles import STYLES

PHRASE_FEATURES = 5
"""Numbers that say where in its phrase each pose frame lies (``phrase_features``)."""


def phrase_features(prosody: Prosody, frames: int) -> F32:
    """(frames, 5) what a phrase is like at each pose frame, as heard by then.

    Whether there is speech, the time since its phrase began and since the last one ended (both
    squashed to 0..1), its level over the voice's mean in tens of dB, and a trace of the
    prominent syllables just heard.
    """
    times_s: F64 = np.arange(frames) / POSE_FPS
    found = np.zeros((frames, PHRASE_FEATURES), dtype=np.float32)
    found[:, 2] = 1.0
    for start_s, end_s in prosody.phrases:
        inside = (times_s >= start_s) & (times_s < end_s)
        found[inside, 0] = 1.0
        found[inside, 1] = np.tanh((times_s[inside] - start_s) / 2.0)
        since = times_s >= end_s
        found[since, 2] = np.tanh((times_s[since] - end_s) / 2.0)
    found[found[:, 0] > 0, 2] = 0.0
    if len(prosody.level_db):
        at = np.minimum((times_s * FRAME_HZ).astype(int), len(prosody.level_db) - 1)
        found[:, 3] = prosody.level_db[at] / 10.0
    for peak in prosody.peaks:
        since_s = times_s - peak.time_s
        trace = (since_s >= 0) * np.exp(-np.maximum(since_s, 0) / 0.4)
        found[:, 4] = np.maximum(found[:, 4], trace * np.clip(0.5 + 0.25 * peak.strength, 0, 1))
    return found


def build_stream(stream: StreamPlan, out: Path, catalogue: Catalogue) -> str:
    """Write one stream's file; returns its name. A finished file is kept."""
    path = out / f"{stream.name}.npz"
    if path.exists():
        return stream.name
    voice, heard = make_sound(stream)
    frames = len(heard) * POSE_FPS // SAMPLE_RATE_HZ
    prosody = analyse(voice)
    planned = plan(prosody, frames, STYLES[stream.style], catalogue, stream.seed)
    columns, _ = log_mel(heard, initial_log_mel())
    content: dict[str, object] = {
        "columns": columns.astype(np.float16),
        "directions": planned.directions.astype(np.float16),
        "choice": planned.choice,
        "age": planned.age,
        "phrase": phrase_features(prosody, frames).astype(np.float16),
        "style": np.int64(stream.style),
        "kind": np.str_(stream.kind),
    }
    if stream.split != "train":
        content |= {
            "samples": _pcm(heard),
            "voice": _pcm(voice),
            "phrases": np.array(prosody.phrases, dtype=np.float64).reshape(-1, 2),
        }
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez(file, **content)  # type: ignore[arg-type]
    unfinished.replace(path)
    return stream.name


def _pcm(samples: F32) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.asarray(np.round(np.clip(samples, -1.0, 1.0) * 32767.0), dtype=np.int16)


_worker_catalogues: dict[bool, Catalogue] = {}


def _start_worker(data: Path, splits: tuple[bool, ...]) -> None:
    for held_out in splits:
        _worker_catalogues[held_out] = load_catalogue(data, held_out)


def _build_in_worker(stream: StreamPlan, out: Path) -> str:
    return build_stream(stream, out, _worker_catalogues[stream.split == "held_out"])


def build(data: Path, out: Path, hours: float, seed: int = 0, jobs: int = 2) -> None:
    """Build the corpus, or what is missing of it.

    Raises:
        Ha2gError: the data are not what they should be, or ``out`` holds another corpus.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingExtra("building a corpus", "tqdm", "train") from error
    catalogue = load_catalogue(data)
    splits = plan_streams(read_speech_table(data), hours, seed)
    held_out_too: tuple[bool, ...] = (False, True)
    try:
        load_catalogue(data, held_out=True)
    except Ha2gError:
        splits["held_out"], held_out_too = [], (False,)  # a handful of clips: all for training
    about = {
        "seed": seed,
        "hours": hours,
        "styles": [style.name for style in STYLES],
        "choices": list(catalogue.names),
        "idle_count": catalogue.idle_count,
        "rest": catalogue.rest.tolist(),
        "streams": {split: [stream.name for stream in plans] for split, plans in splits.items()},
    }
    text = json.dumps(about)
    said = out / "corpus.json"
    if said.exists() and said.read_text(encoding="utf-8") != text:
        raise Ha2gError(f"{out} holds another corpus: name another --out, or delete it")
    out.mkdir(parents=True, exist_ok=True)
    said.write_text(text, encoding="utf-8")
    streams = [stream for plans in splits.values() for stream in plans]
    with multiprocessing.get_context("spawn").Pool(
        jobs, _start_worker, (data, held_out_too)
    ) as pool:
        work = pool.imap_unordered(partial(_build_in_worker, out=out), streams)
        for _ in tqdm(work, total=len(streams), unit="stream", desc="corpus"):
            pass


def main(argv: list[str] | None = None) -> int:
    """The ``corpus`` command."""
    parser = Parser(prog="ha2g-live corpus", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("build",), help="what to do")
    parser.add_argument("--data", type=Path, required=True, help="folder with speech and clips")
    parser.add_argument("--out", type=Path, default=Path("corpus"), help="folder to write")
    parser.add_argument("--hours", type=float, default=10.0, help="hours to train on (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args(argv)
    build(options.data, options.out, options.hours, options.seed, options.jobs)
    print(f"wrote {options.out}: train on it with  ha2g-live train", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
