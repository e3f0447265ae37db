"""Makes the published system's windows of a corpus, so that it can be trained on the same motion.

    python -m ha2g_live.training.corpus_windows --corpus corpus --out windows --minutes 120

What follows is ``ha2g-live train --recipe ha2g --streaming``: a style is a speaker, nothing is said
in words, and the network hears the corpus's own mel columns, which are all that is known of the
sound of a training stream. The published spectrogram, in dB below a clip's maximum, would need that
sound; the columns stand in its place too. Every stream is a clip, and nothing of it is left out:
that hands rest where nobody speaks has to be learnt as well.

The epoch that is kept is chosen on the ``unheard`` streams, so the ``held_out`` ones stay unseen.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.engines.ted import WINDOW_FRAMES, skeleton
from ha2g_live.realtime.errors import ConfigError, Ha2gError, MissingExtra
from ha2g_live.realtime.features import decibels
from ha2g_live.realtime.options import Parser, say
from ha2g_live.realtime.skeleton import BONE_COUNT, MEAN_DIRECTION, POSE_DIM, normalise
from ha2g_live.realtime.timebase import MEL_BANDS, POSE_FPS
from ha2g_live.training.ha2g.dataset import DataSetError
from ha2g_live.training.ha2g.windows import CUT_STRIDE_FRAMES
from ha2g_live.training.ha2g.writer import Clip, DataSetWriter

SPLIT_STREAMS = {"train": "train", "val": "unheard", "test": "held_out"}
"""Split of the data set, and the streams of the corpus it is made of."""
_FULL_SCALE = 32768.0


def convert_corpus(corpus: Path, out: Path, minutes: float | None = None) -> dict[str, int]:
    """Write a corpus in the open format of data sets.

    Args:
        corpus: folder of the corpus.
        out: folder to make.
        minutes: take no more of any split than this, equally of every style; all when left out.

    Returns:
        Windows of each split.

    Raises:
        Ha2gError: there is no corpus, a stream of it is damaged, or ``out`` cannot be written.
        ConfigError: ``minutes`` is not above zero.
        MissingExtra: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingExtra("converting a corpus", "tqdm", "train") from error
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"--minutes must be above 0, got {minutes:g}")
    about = _about(corpus)
    styles: list[str] = about["styles"]
    left = {split: float("inf") if minutes is None else minutes * 60 for split in SPLIT_STREAMS}
    met: set[str] = set()
    with DataSetWriter(out, skeleton("ted_expressive"), f"the corpus {corpus.name}") as writer:
        for split, kind in SPLIT_STREAMS.items():
            names = _in_turns(corpus, about["streams"].get(kind, []))
            for name in tqdm(names, desc=split, unit="stream", disable=None):
                if left[split] <= 0:
                    break
                clip = _clip(corpus / f"{name}.npz", styles)
                left[split] -= len(clip.poses) / POSE_FPS
                if clip.windows:
                    writer.add(split, clip)
                    met |= {clip.speaker}
            if missing := [style for style in styles if style not in met]:
                raise DataSetError(
                    f"no training stream was taken of the style {missing[0]!r}: "
                    "choose more --minutes, or build a larger corpus"
                )
        writer.notes["corpus"] = {"seed": about.get("seed"), "minutes": minutes}
        writer.notes["spectrogram_clip"] = "as spectrogram_stream: training streams have no sound"
    return {split: writer.windows[split] for split in SPLIT_STREAMS}


def _about(corpus: Path) -> dict[str, Any]:
    path = corpus / "corpus.json"
    if not path.is_file():
        raise Ha2gError(f"{path} is missing: build a corpus with  ha2g-live corpus build")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not (about["styles"] and about["streams"]["train"]):
            raise ValueError("no styles, or no streams to train on")
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise Ha2gError(f"{path} is damaged ({reason}): build the corpus again") from error
    return about


def _in_turns(corpus: Path, names: list[str]) -> list[str]:
    """The streams dealt one of every style at a time, in the order of the styles.

    The first of them hold all styles alike, and a network's speakers come in the styles' order.
    """
    seen: Counter[int] = Counter()
    order: list[tuple[int, int, str]] = []
    for name in names:
        style = int(_read(corpus / f"{name}.npz", "style")[0])
        order.append((seen[style], style, name))
        seen[style] += 1
    return [name for _, _, name in sorted(order)]


def _clip(path: Path, styles: list[str]) -> Clip:
    columns, directions, style = _read(path, "columns", "directions", "style")
    shapes = columns.shape[1:] == (MEL_BANDS,) and directions.shape[1:] == (BONE_COUNT, 3)
    if not (shapes and len(columns) and len(directions) and 0 <= style < len(styles)):
        raise Ha2gError(f"{path} does not hold a stream of this corpus: build it again")
    spectrogram = decibels(columns.astype(np.float32)).T
    (samples,) = _read(path, "samples", absent=np.zeros(0, dtype=np.int16))
    poses = normalise(directions.astype(np.float32)) - MEAN_DIRECTION
    return Clip(
        poses=poses.reshape(len(poses), POSE_DIM),
        audio=samples.astype(np.float32) / _FULL_SCALE,
        words=(),
        speaker=styles[int(style)],
        windows=range(0, len(directions) - WINDOW_FRAMES + 1, CUT_STRIDE_FRAMES),
        spectrogram=spectrogram,
        stream_spectrogram=spectrogram,
    )


def _read(path: Path, *names: str, absent: Any = None) -> list[Any]:
    """Arrays of a stream's file, none but these; ``absent`` in the place of one it may lack."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return [
                file[name] if absent is None or name in file.files else absent for name in names
            ]
    except Exception as error:  # a damaged archive raises many kinds
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise Ha2gError(f"{path} {reason}: build the corpus again") from error


def main(argv: list[str] | None = None) -> int:
    """The command line of this module.

    Returns:
        0; 2 after a mistake, which is reported in one line.
    """
    parser = Parser(
        prog="python -m ha2g_live.training.corpus_windows",
        description="Make a data set for  ha2g-live train --recipe ha2g --streaming  of a corpus.",
    )
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder (corpus)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="at most this much of every split (all of it)"
    )
    options = parser.parse_args(argv)
    try:
        windows = convert_corpus(options.corpus, options.out, options.minutes)
    except Ha2gError as error:
        say(str(error))
        return 2
    counts = ", ".join(f"{count} windows in {split}" for split, count in windows.items())
    say(f"wrote {options.out}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
