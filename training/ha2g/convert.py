"""Converts published data sets to the open format, once.

    ha2g-live dataset convert PATH --out DIR

PATH holds the LMDB folders of TED Expressive or TED Gesture (train, val, test), or is BEAT2.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ha2g_live.engines.ted import NAMES, Skeleton, skeleton
from ha2g_live.realtime.errors import ConfigError, MissingExtra
from ha2g_live.realtime.options import Parser, say
from ha2g_live.realtime.timebase import SAMPLE_RATE_HZ
from ha2g_live.training.ha2g import beat2
from ha2g_live.training.ha2g.dataset import SPLITS, DataSetError
from ha2g_live.training.ha2g.legacy import LegacyError, legacy_python, read_records
from ha2g_live.training.ha2g.smplx import Body
from ha2g_live.training.ha2g.windows import RawClip, Tally, Word, prepare, table
from ha2g_live.training.ha2g.writer import DataSetWriter, check_new

_OTHER_NAMES = {"valid": "val", "validation": "val"}
_CLOCK_SLACK_S = 0.5


def convert_lmdb(
    path: Path, out: Path, wanted: str | None = None, interpreter: Path | None = None
) -> dict[str, Tally]:
    """Convert published LMDB folders.

    Args:
        path: folder with the folders train, val, test, or some of them.
        out: folder to make.
        wanted: the skeleton it must be; what the records hold when left out.
        interpreter: a Python with an old pyarrow; one is set up when left out.

    Returns:
        What became of the clips and windows of each split.

    Raises:
        DataSetError: there is nothing to convert, nothing is kept, or ``out`` cannot be written.
        LegacyError: the records cannot be read.
        ConfigError: they have another skeleton than wanted.
    """
    folders = lmdb_folders(path)
    check_new(out)
    python = legacy_python(interpreter)
    bones = _skeleton_of(python, folders)
    if wanted not in {None, bones.name}:
        raise ConfigError(f"{path} holds {bones.name}: leave out --skeleton {wanted}")
    tallies = {split: Tally() for split in folders}
    with DataSetWriter(out, bones, f"{bones.name}, published LMDB") as writer:
        for split, folder in folders.items():
            for raw in _raw_clips(python, folder, split, bones):
                clip = _prepared(raw, bones, tallies[split], folder)
                if clip is not None:
                    writer.add(split, clip)
        finish(writer, tallies)
    return tallies


def finish(writer: DataSetWriter, tallies: dict[str, Tally]) -> None:
    """Keep the counts with the data set; a data set of nothing is an error.

    Raises:
        DataSetError: no window was kept.
    """
    if not sum(writer.windows.values()):
        print(table(tallies), file=sys.stderr)
        raise DataSetError("no window was kept: the table above says why; nothing was written")
    writer.notes["dropped"] = {
        split: {"clips": dict(tally.clips), "windows": dict(tally.windows)}
        for split, tally in tallies.items()
    }


def lmdb_folders(path: Path) -> dict[str, Path]:
    """The LMDB folder of each split that is there, the training split first.

    Raises:
        DataSetError: there is none, or two of one split.
    """
    if not path.is_dir():
        raise DataSetError(f"there is no folder {path}: give the one that holds train, val, test")
    found: dict[str, Path] = {}
    for folder in sorted(path.iterdir()):
        ending = re.search(r"(?:^|[_-])(train|val|valid|validation|test)$", folder.name.lower())
        if ending is None or not (folder / "data.mdb").is_file():
            continue
        split = _OTHER_NAMES.get(ending[1], ending[1])
        if split in found:
            raise DataSetError(
                f"{path} holds both {found[split].name} and {folder.name}: leave one there"
            )
        found[split] = folder
    if not found:
        raise DataSetError(
            f"{path} holds no LMDB folder called train, val or test (a folder with data.mdb): "
            "give the folder that holds them"
        )
    return {split: found[split] for split in SPLITS if split in found}


def progress(what: str, total: int, unit: str) -> Any:
    """A progress bar.

    Raises:
        MissingExtra: tqdm is not installed.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise MissingExtra("converting a data set", "tqdm", "train") from error
    return tqdm(total=total, desc=what, unit=f" {unit}", disable=None)


def _skeleton_of(python: Path, folders: dict[str, Path]) -> Skeleton:
    for folder in folders.values():
        messages = read_records(python, folder)
        try:
            for header, _ in messages:
                if header["kind"] == "clip":
                    return skeleton(header["skeleton"])
        finally:
            messages.close()  # type: ignore[attr-defined]
    raise DataSetError(f"{', '.join(map(str, folders.values()))}: there are no clips")


def _raw_clips(python: Path, folder: Path, split: str, bones: Skeleton) -> Iterator[RawClip]:
    bar = None
    try:
        for header, arrays in read_records(python, folder):
            if header["kind"] == "start":
                bar = progress(split, header["records"], "records")
            elif header["kind"] == "record" and bar is not None:
                bar.update()
            elif header["kind"] == "clip":
                if header["skeleton"] != bones.name:
                    raise DataSetError(
                        f"{folder} mixes {bones.name} and {header['skeleton']}: convert them apart"
                    )
                yield _raw_clip(header, arrays)
    finally:
        if bar is not None:
            bar.close()


def _raw_clip(header: dict[str, Any], arrays: dict[str, Any]) -> RawClip:
    start_s, end_s = header["times_s"]
    if start_s is None or end_s is None:
        start_s, end_s = 0.0, len(arrays["audio"]) / SAMPLE_RATE_HZ
    return RawClip(
        speaker=header["vid"],
        positions=arrays["positions"],
        duration_s=end_s - start_s,
        words=relative_words([tuple(word) for word in header["words"]], start_s, end_s),
        audio=arrays["audio"],
        spectrogram=arrays.get("spectrogram"),
    )


def relative_words(words: list[Word], start_s: float, end_s: float) -> list[Word]:
    """Words in seconds from the clip's start, from either that or the video's start."""
    duration_s = end_s - start_s
    inside = sum(-_CLOCK_SLACK_S <= start <= duration_s + _CLOCK_SLACK_S for _, start, _ in words)
    by_video = sum(
        start_s - _CLOCK_SLACK_S <= start <= end_s + _CLOCK_SLACK_S for _, start, _ in words
    )
    if by_video <= inside:
        return words
    return [(word, begin - start_s, end - start_s) for word, begin, end in words]


def _prepared(raw: RawClip, bones: Skeleton, tally: Tally, folder: Path) -> Any:
    try:
        return prepare(raw, bones, tally)
    except ValueError as error:
        raise LegacyError(f"{folder}: a clip of {raw.speaker!r} has {error}") from error


def convert_beat2(path: Path, out: Path, body_model: Path | None = None) -> dict[str, Tally]:
    """Convert BEAT2.

    Args:
        path: a language folder of BEAT2, or the folder that holds them.
        out: folder to make.
        body_model: the user's own SMPL-X file; approximate proportions when left out.

    Returns:
        What became of the clips and windows of each split.

    Raises:
        DataSetError: there is nothing to convert, nothing is kept, or ``out`` cannot be written.
    """
    recordings = beat2.find_recordings(path)
    check_new(out)
    body = Body.load(body_model) if body_model else Body.approximate()
    bones = skeleton("ted_expressive")
    tallies = {split: Tally() for split in SPLITS if recordings[split]}
    with DataSetWriter(out, bones, f"BEAT2, {body.name}") as writer:
        for split, tally in tallies.items():
            bar = progress(split, len(recordings[split]), "recordings")
            with bar:
                for recording in recordings[split]:
                    raw, filters = beat2.load(recording, body)
                    clip = prepare(raw, bones, tally, filters)
                    if clip is not None:
                        writer.add(split, clip)
                    bar.update()
        finish(writer, tallies)
    return tallies


def _format_of(path: Path) -> str:
    return "beat2" if beat2.is_beat2(path) else "lmdb"


def main(argv: list[str] | None = None) -> int:
    """The ``dataset`` command."""
    parser = Parser(
        prog="ha2g-live dataset",
        description="Data sets for the published system. The one thing to do is: convert PATH",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="convert")
    convert = commands.add_parser(
        "convert",
        prog="ha2g-live dataset convert",
        description="Convert TED Expressive, TED Gesture (LMDB folders) or BEAT2, once.",
    )
    _add_arguments(convert)
    options = parser.parse_args(argv)
    kind = options.format or _format_of(options.path)
    if kind == "beat2":
        if options.skeleton == "ted_gesture":
            raise ConfigError("BEAT2 becomes ted_expressive: leave out --skeleton")
        if options.legacy_python:
            raise ConfigError("--legacy-python is for LMDB folders: leave it out")
        tallies = convert_beat2(options.path, options.out, options.body_model)
    else:
        if options.body_model:
            raise ConfigError("--body-model is for BEAT2: leave it out")
        tallies = convert_lmdb(options.path, options.out, options.skeleton, options.legacy_python)
    print(table(tallies), file=sys.stderr)
    following = f"ha2g-live train --recipe ha2g --dataset {options.out}"
    say(f"wrote {options.out}: train on it with  {following}")
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="folder with train, val and test")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--skeleton", choices=NAMES, help="refuse any other (the records tell which it is)"
    )
    parser.add_argument(
        "--format", choices=("lmdb", "beat2"), help="what PATH holds (found out by itself)"
    )
    parser.add_argument(
        "--legacy-python",
        type=Path,
        metavar="EXE",
        help="an interpreter with pyarrow 11 and lmdb; one is set up when left out",
    )
    parser.add_argument(
        "--body-model",
        type=Path,
        metavar="FILE.npz",
        help="BEAT2: your SMPL-X file, for exact proportions",
    )


if __name__ == "__main__":
    sys.exit(main())
