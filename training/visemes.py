"""Fit the lips' network (``realtime/mouth.py``) on recordings, and score it on other speakers.

    python -m ha2g_live.training.visemes --data DIR

Which sound is where in a recording is found by a recogniser with an open model, pocketsphinx (BSD):
it writes down what it hears, then lays the phones of its own words on the sound. Words that it
mishears mostly have the vowels that were said; what is mislabelled all the same counts against the
network in the scores.

A speaker is either learnt from or scored. What is learnt from is mixed with noise and music and
coloured as microphones do; what is scored is as recorded.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ha2g_live.realtime.audio_file import read_audio
from ha2g_live.realtime.errors import ConfigError, MissingExtra
from ha2g_live.realtime.mouth import (
    CLASSES,
    FEATURES,
    HOP_SAMPLES,
    VISEMES,
    WINDOW_SAMPLES,
    Weights,
    features_of,
    hear,
    initial_mouth,
    odds_of,
)
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.realtime.types import F32
from ha2g_live.training.human_sounds import breathing
from ha2g_live.training.music import music
from ha2g_live.training.noise import noise
from ha2g_live.training.non_speech import fan, keyboard, knocks
from ha2g_live.training.room import room

HIDDEN = 96
HELD_OUT_SHARE = 0.2
LEAST_VOWEL_S = 0.08
"""Shorter vowels are not scored: in running speech they hardly reach their place."""
_LONGEST_S = 14.0
_MODEL_FPS = 100  # frames a second of pocketsphinx
# Phone (CMU's names) to classes from its start: (share of its length, class).
_PHONES: dict[str, tuple[tuple[float, str], ...]] = {
    "AA": ((1.0, "aa"),), "AH": ((1.0, "aa"),),
    "IY": ((1.0, "ih"),), "IH": ((1.0, "ih"),),
    "UW": ((1.0, "ou"),), "UH": ((1.0, "ou"),),
    "EH": ((1.0, "ee"),), "AO": ((1.0, "oh"),),
    "EY": ((0.45, "ee"), (0.3, ""), (1.0, "ih")),
    "AY": ((0.5, "aa"), (0.3, ""), (1.0, "ih")),
    "OW": ((0.55, "oh"), (0.25, ""), (1.0, "ou")),
    "AW": ((0.5, "aa"), (0.3, ""), (1.0, "ou")),
    "OY": ((0.5, "oh"), (0.3, ""), (1.0, "ih")),
    "M": ((1.0, "closed"),), "B": ((1.0, "closed"),), "P": ((1.0, "closed"),),
    "SIL": ((1.0, "silence"),),
}  # fmt: skip
_BETWEEN = ("ER", "AE")
"""Vowels whose place lies between two of the five: neither learnt nor scored."""
SCORED = ("IY", "IH", "UW", "UH", "EH", "AA", "AO")
"""Vowels that keep one place."""
_RARITY = 0.8
_EDGE = 0.15  # of a phone at both ends, where the neighbours sound through


def align(data: Path, out: Path) -> list[dict[str, Any]]:
    """Phones of all English recordings, kept in ``out`` (one JSON object a line) once found.

    Raises:
        MissingExtra: pocketsphinx is not installed.
    """
    if out.is_file():
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    try:
        from pocketsphinx import Decoder
    except ModuleNotFoundError as error:
        raise MissingExtra("finding vowels in recordings", "pocketsphinx", "train") from error
    from tqdm import tqdm

    with (data / "speech.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["language"] == "en"]
    decoder = Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL")
    found = []
    for row in tqdm(rows, desc="phones", unit="recording"):
        samples = read_audio(data / row["file"])
        if len(samples) > _LONGEST_S * SAMPLE_RATE_HZ:
            continue
        phones = _phones(decoder, samples)
        if phones:
            found.append({"file": row["file"], "speaker": row["speaker"], "phones": phones})
    out.write_text("".join(json.dumps(item) + "\n" for item in found), encoding="utf-8")
    return found


def _phones(decoder: Any, samples: F32) -> list[tuple[str, int, int]]:
    """(phone, first frame, frames) of a recording; none where the recogniser gives up."""
    raw = (samples / max(float(np.abs(samples).max()), 1e-6) * 0.7 * 32767).astype("<i2").tobytes()

    def listen() -> None:
        decoder.start_utt()
        decoder.process_raw(raw, full_utt=True)
        decoder.end_utt()

    try:
        decoder.activate_search("_default")
        listen()
        heard = decoder.hyp()
        if heard is None:
            return []
        decoder.set_align_text(heard.hypstr)
        listen()
        decoder.set_alignment()
        listen()
    except RuntimeError:  # it cannot lay its own words on the sound
        return []
    return [(p.name, p.start, p.duration) for word in decoder.get_alignment() for p in word]


def labels_of(
    phones: Sequence[Sequence[Any]], frames: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Class of each frame (-1 for none), and which frames are scored.

    Args:
        phones: (name, first frame, frames, ...) at 100 a second.
        frames: of the lips, whose windows end ``HOP_SAMPLES`` apart.
    """
    labels = np.full(frames, -1)
    scored = np.zeros(frames, dtype=np.bool_)
    # Frame n is centred half a window before its end.
    centre = ((np.arange(frames) + 1) * HOP_SAMPLES - WINDOW_SAMPLES / 2) / SAMPLE_RATE_HZ
    for name, first, count, *_ in phones:
        if count <= 0:
            continue
        share = (centre - first / _MODEL_FPS) / (count / _MODEL_FPS)
        inside = (share >= 0.0) & (share < 1.0)
        if name in _BETWEEN:
            continue
        start = 0.0
        for length, kind in _PHONES.get(name, ((1.0, "consonant"),)):
            part = inside & (share >= start) & (share < start + length)
            if kind:
                labels[part] = CLASSES.index(kind)
            start += length
        if labels[inside].size and name in _PHONES and name != "SIL":
            labels[inside & ((share < _EDGE) | (share > 1.0 - _EDGE))] = -1
        if name in SCORED and count / _MODEL_FPS >= LEAST_VOWEL_S:
            scored |= inside & (share > 1 / 3) & (share < 2 / 3)
    return labels, scored


def is_held_out(speaker: str) -> bool:
    """Whether a speaker is scored and not learnt from."""
    return zlib.crc32(speaker.encode()) % 1000 < 1000 * HELD_OUT_SHARE


def _coloured(samples: F32, rng: np.random.Generator) -> F32:
    """As another microphone in another room would hear it."""
    tilt = rng.uniform(-0.5, 0.5)
    out = samples + np.float32(tilt) * np.concatenate(([0.0], samples[:-1])).astype(np.float32)
    if rng.random() < 0.3:
        out = room(out, rng)[: len(samples)]
    return np.asarray(out * 10.0 ** (rng.uniform(-25.0, 5.0) / 20.0), dtype=np.float32)


_BEDS = (noise, fan, music, keyboard, breathing, knocks)


def _mixed(samples: F32, rng: np.random.Generator) -> tuple[F32, int]:
    """A coloured recording after some seconds of its bed, and where it begins in frames."""
    lead = int(rng.integers(50, 300))
    voice = _coloured(samples, rng)
    total = lead * HOP_SAMPLES + len(voice)
    bed = _bed(total, rng)
    speech_rms = float(np.sqrt(np.mean(voice**2)))
    bed_rms = max(float(np.sqrt(np.mean(bed**2))), 1e-9)
    ratio_db = rng.uniform(8.0, 45.0)
    out = bed * (speech_rms / bed_rms * 10.0 ** (-ratio_db / 20.0))
    out[lead * HOP_SAMPLES :] += voice
    return out.astype(np.float32), lead


def _bed(count: int, rng: np.random.Generator) -> F32:
    """Sound without a voice."""
    return _BEDS[int(rng.choice(len(_BEDS), p=(0.4, 0.2, 0.15, 0.1, 0.1, 0.05)))](count, rng)


def gather(
    data: Path, found: list[dict[str, Any]], copies: int, seed: int
) -> tuple[F32, npt.NDArray[np.int64]]:
    """Features and classes to learn from."""
    from tqdm import tqdm

    rng = np.random.default_rng(seed)
    features, labels = [], []
    for item in tqdm(found, desc="features", unit="recording"):
        if is_held_out(item["speaker"]):
            continue
        samples = read_audio(data / item["file"])
        for _ in range(copies):
            sound, lead = _mixed(samples, rng)
            seen = features_of(sound)
            label, _ = labels_of(item["phones"], len(seen) - lead)
            # What comes before the voice is silence, however loud.
            label = np.concatenate((np.zeros(lead, dtype=np.int64), label))
            features.append(seen[label >= 0])
            labels.append(label[label >= 0])
        if len(labels) % 3:
            continue
        # And a room in which nobody ever spoke: the loudest there is must not pass for a voice.
        alone = _bed(6 * SAMPLE_RATE_HZ, rng)
        alone = alone * np.float32(10.0 ** rng.uniform(-3.0, -0.5) / max(np.abs(alone).max(), 1e-9))
        features.append(features_of(alone))
        labels.append(np.zeros(len(features[-1]), dtype=np.int64))
    return np.concatenate(features), np.concatenate(labels)


def fit(features: F32, labels: npt.NDArray[np.int64], epochs: int, seed: int) -> dict[str, F32]:
    """The network's weights, as ``mouth.Weights`` names them."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    net = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, len(CLASSES))
    )
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    count = torch.bincount(y, minlength=len(CLASSES)).float()
    # Rare classes count more, though less than in proportion.
    weight = (count.sum() / count.clamp(min=1.0)) ** _RARITY
    weight /= weight.mean()
    mean, spread = x.mean(dim=0), x.std(dim=0) + 1e-3
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    batch = 1024
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        total = 0.0
        for at in range(0, len(x) - batch, batch):
            rows = order[at : at + batch]
            seen = (x[rows] - mean) / spread
            loss = functional.cross_entropy(net(seen), y[rows], weight=weight, label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}/{epochs}: loss {total / max(1, len(x) // batch):.3f}", flush=True)
    first: Any = net[0]
    last: Any = net[2]
    inner = first.weight.detach() / spread
    return {
        "inner": inner.T.numpy().astype(np.float32),
        "inner_bias": (first.bias.detach() - inner @ mean).numpy().astype(np.float32),
        "outer": last.weight.detach().T.numpy().astype(np.float32),
        "outer_bias": last.bias.detach().numpy().astype(np.float32),
    }


def score(
    data: Path, found: list[dict[str, Any]], stored: dict[str, F32]
) -> tuple[npt.NDArray[np.int64], dict[str, tuple[int, int]]]:
    """Confusion of the scored frames (vowel said, class found), and right and all by speaker.

    The classes are those of single frames; right is a frame in which the viseme that is shown most
    is the one that was said.
    """
    net = Weights(*(stored[name].astype(np.float64) for name in Weights._fields))
    confusion = np.zeros((len(VISEMES), len(CLASSES)), dtype=np.int64)
    speakers: dict[str, tuple[int, int]] = {}
    for item in found:
        if not is_held_out(item["speaker"]):
            continue
        samples = read_audio(data / item["file"])
        seen = features_of(samples)
        shown, _ = hear(samples, initial_mouth(), net)
        labels, scored = labels_of(item["phones"], len(seen))
        scored &= labels > 0
        taken = odds_of(seen, net).argmax(axis=1)
        np.add.at(confusion, (labels[scored] - 1, taken[scored]), 1)
        right, total = speakers.get(item["speaker"], (0, 0))
        hits = int((1 + shown.visemes[scored].argmax(axis=1) == labels[scored]).sum())
        speakers[item["speaker"]] = (right + hits, total + int(scored.sum()))
    return confusion, speakers


def table(confusion: npt.NDArray[np.int64], speakers: dict[str, tuple[int, int]]) -> str:
    """The scores in words."""
    lines = ["said   " + "".join(f"{name:>10}" for name in CLASSES)]
    for name, row in zip(VISEMES, confusion, strict=True):
        shares = 100.0 * row / max(1, row.sum())
        lines.append(f"{name:<7}" + "".join(f"{share:9.1f}%" for share in shares))
    right = sum(hits for hits, _ in speakers.values())
    shares = [r / t for r, t in speakers.values() if t >= 20]
    lines.append(
        "the viseme shown most is the right one in "
        f"{100.0 * right / max(1, confusion.sum()):.1f} % of {confusion.sum()} frames of "
        f"{len(speakers)} held-out speakers; by speaker {100 * np.median(shares):.1f} % median, "
        f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Fit and score; the weights go to ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m ha2g_live.training.visemes")
    parser.add_argument("--data", type=Path, required=True, help="folder with speech.csv")
    parser.add_argument("--phones", type=Path, default=Path("phones.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("visemes.npz"))
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    if not (options.data / "speech.csv").is_file():
        raise ConfigError(f"there is no speech.csv in {options.data}: give the data folder")
    found = align(options.data, options.phones)
    stored = fit(
        *gather(options.data, found, options.copies, options.seed), options.epochs, options.seed
    )
    np.savez_compressed(options.out, **stored)  # type: ignore[arg-type]
    print(table(*score(options.data, found, stored)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
