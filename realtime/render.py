"""``ha2g-live render``: a picture or a video of the motion that a recording makes.

Pillow and PyAV are optional (the ``render`` extra) and are loaded only when something is drawn.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ha2g_live.engines.base import Engine
from ha2g_live.realtime.audio_file import demo_clip, read_audio
from ha2g_live.realtime.errors import ConfigError, MissingExtra
from ha2g_live.realtime.offline import Motion, animate
from ha2g_live.realtime.skeleton import BONE_COUNT, normalise

Progress = Callable[[int, int], None]

_NEEDS = {".mp4": {"PIL": "pillow", "av": "av"}, ".png": {"PIL": "pillow"}}
"""Kinds of files that can be written: the modules each needs, and what installs them."""
DEFAULT_FRAMES = 24
_MAX_FRAMES = 240


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ha2g-live render``, all but the choice of engine and model."""
    parser.add_argument("audio", nargs="?", type=Path, metavar="AUDIO", help="a sound file")
    parser.add_argument("--demo", action="store_true", help="use the clip that is included")
    parser.add_argument(
        "--motion",
        type=Path,
        metavar="FILE.npz",
        help="show a stored motion ('directions', 'fps', optional 'audio') and run no model",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=".mp4 for a video, .png for a sheet"
    )
    parser.add_argument("--style", help="speaker style of the model (default: its first)")
    parser.add_argument("--seed", type=int, default=0, help="picks the gestures (default: 0)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second (default: 30)")
    parser.add_argument(
        "--frames",
        type=int,
        default=DEFAULT_FRAMES,
        help=f"figures of a .png, evenly spaced (default: {DEFAULT_FRAMES})",
    )
    parser.add_argument(
        "--at", default="", metavar="S,S,...", help="moments of a .png in seconds, e.g. 1.5,2,4.2"
    )


def run(args: argparse.Namespace, open_engine: Callable[[], Engine]) -> None:
    """Do what the arguments of ``add_arguments`` say.

    Args:
        args: the parsed arguments.
        open_engine: opens the model; not called for a stored motion.

    Raises:
        Ha2gError: as ``render`` and ``load_motion``.
    """
    given = [args.audio is not None, args.demo, args.motion is not None]
    if sum(given) != 1:
        raise ConfigError("give one of: an AUDIO file, --demo, --motion FILE.npz")
    at_s = _moments(args.at)
    check_output(args.out)
    if args.motion is not None:
        motion = load_motion(args.motion)
        show(motion, args.out, args.motion.stem, frames=args.frames, at_s=at_s)
    else:
        engine = open_engine()
        try:
            render(
                demo_clip() if args.demo else args.audio,
                args.out,
                engine=engine,
                style=args.style,
                seed=args.seed,
                fps=args.fps,
                frames=args.frames,
                at_s=at_s,
            )
        finally:
            engine.close()
    sys.stdout.write(f"wrote {args.out}\n")


def _moments(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--at must be seconds like 1.5,2,4.2, got {text!r}") from error


def render(
    audio: Path,
    out: Path,
    *,
    engine: Engine,
    style: str | None = None,
    seed: int = 0,
    fps: float = 30.0,
    frames: int = DEFAULT_FRAMES,
    at_s: Sequence[float] = (),
) -> None:
    """Animate a recording and show it.

    Args:
        audio: a sound file.
        out: the file to write; ``.mp4`` makes a video, ``.png`` a contact sheet.
        engine: an opened model.
        style: a style of the model; its first when left out.
        seed: picks the gestures.
        fps: frames a second.
        frames: how many figures a contact sheet shows.
        at_s: show these moments in seconds instead of evenly spaced ones.

    Raises:
        AudioFileError: the sound cannot be read.
        ConfigError: a setting is out of range, or ``out`` cannot be written.
        MissingExtra: Pillow or PyAV is not installed.
        ModelError: the model has no such style.
    """
    check_output(out)
    samples = read_audio(audio)
    motion = animate(
        samples, engine, fps=fps, style=style, seed=seed, progress=progress_bar("move")
    )
    show(motion, out, audio.stem, frames=frames, at_s=at_s)


def show(
    motion: Motion,
    out: Path,
    title: str,
    *,
    frames: int = DEFAULT_FRAMES,
    at_s: Sequence[float] = (),
) -> None:
    """Write a finished motion as a video or a contact sheet; see ``render``."""
    check_output(out)
    if not 1 <= frames <= _MAX_FRAMES:
        raise ConfigError(f"--frames must be in 1..{_MAX_FRAMES}, got {frames}")
    for moment_s in at_s:
        if not 0.0 <= moment_s <= motion.duration_s:
            raise ConfigError(
                f"--at must lie within the motion, 0..{motion.duration_s:.2f} s, got {moment_s:g}"
            )
    # A half-written file must not look like a finished one, nor destroy the one before.
    part = out.with_name(f".{out.name}.part")
    try:
        part.touch()
        try:
            video = out.suffix.lower() == ".mp4"
            _write(motion, part, title, video=video, frames=frames, at_s=at_s)
            os.replace(part, out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write {out} ({error.strerror or error}): choose another --out"
        ) from error


def _write(
    motion: Motion, part: Path, title: str, *, video: bool, frames: int, at_s: Sequence[float]
) -> None:
    if not video:
        from ha2g_live.realtime.sheet import contact_sheet, evenly_spaced

        times_s = sorted(at_s) or evenly_spaced(motion, frames)
        sheet = contact_sheet(motion, times_s, title, progress_bar("draw"))
        sheet.save(part, format="png", optimize=True)
    else:
        from ha2g_live.realtime.video import render_video

        render_video(motion, part, title, progress_bar("draw"))


def check_output(out: Path) -> None:
    """Refuse early what could not be written in the end.

    Raises:
        ConfigError: another suffix than those known, or no such folder.
        MissingExtra: Pillow or PyAV is not installed.
    """
    if out.suffix.lower() not in _NEEDS:
        raise ConfigError(
            f"--out must end in .mp4 (video) or .png (contact sheet), got {str(out)!r}"
        )
    if not os.path.isdir(out.parent):
        raise ConfigError(f"cannot write {out}: there is no folder {str(out.parent)!r}")
    if os.path.isdir(out):  # Path.is_dir raises where a name is too long
        raise ConfigError(f"cannot write {out}: it is a folder; name a file")
    for module, package in _NEEDS[out.suffix.lower()].items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise MissingExtra("ha2g-live render", package, "render") from error


def load_motion(path: Path) -> Motion:
    """Read a motion from an ``.npz`` file.

    The file holds ``directions`` (frames, 42, 3) in HA2G axes and ``fps``, and may hold ``audio``,
    (n,) mono samples at 16 kHz that begin with the motion.

    Raises:
        ConfigError: the file is missing, damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            directions = np.asarray(stored["directions"], dtype=np.float32)
            fps = float(stored["fps"])
            audio = np.asarray(stored.get("audio", ()), dtype=np.float32)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not such a file"
        raise ConfigError(
            f"cannot read the motion {path} ({cause}): "
            "give an .npz file with the arrays 'directions' and 'fps'"
        ) from error
    if directions.ndim != 3 or directions.shape[1:] != (BONE_COUNT, 3) or not len(directions):
        raise ConfigError(
            f"{path}: 'directions' has shape {directions.shape}, expected (frames, {BONE_COUNT}, 3)"
        )
    if audio.ndim != 1:
        raise ConfigError(f"{path}: 'audio' has shape {audio.shape}, expected (samples,)")
    if not (np.isfinite(directions).all() and np.isfinite(audio).all()):
        raise ConfigError(f"{path} holds values that are not finite numbers: write it again")
    if not 1.0 <= fps <= 240.0:
        raise ConfigError(f"{path}: 'fps' must be in 1..240, got {fps:g}")
    return Motion(fps, normalise(directions), audio, style="", seed=None, model="")


def progress_bar(label: str) -> Progress | None:
    """A one-line bar on stderr, or None where stderr is not a terminal."""
    if not sys.stderr.isatty():
        return None
    drawn_at_s = -math.inf

    def report(done: int, total: int) -> None:
        nonlocal drawn_at_s
        now_s = time.monotonic()
        if done < total and now_s - drawn_at_s < 0.1:
            return
        drawn_at_s = now_s
        bar = "#" * (30 * done // total)
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r{label} [{bar:<30}] {done}/{total}{end}")
        sys.stderr.flush()

    return report
