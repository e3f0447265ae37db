"""Makes a model that streams of the authors' checkpoint, or of one of a run of one's own.

    ha2g-live import CHECKPOINT.bin --out FOLDER

The folder holds ``checkpoint.pt`` (for ``ha2g-live evaluate``), ``model.onnx`` (for streaming) and
``about.json``. It gets its name last, so a failed import leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ha2g_live.engines import MODEL_FILE
from ha2g_live.engines.ted import NAMES
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.options import Parser
from ha2g_live.training.ha2g.checkpoint import (
    FILE_NAME,
    Checkpoint,
    from_saved,
    is_saved,
    save_checkpoint,
)
from ha2g_live.training.ha2g.pickled import read_pickle
from ha2g_live.training.ha2g.published import from_published

ABOUT_NAME = "about.json"
FORMAT = "ha2g-live model"
VERSION = 1
_STAGES = 3
_STYLES_SHOWN = 3


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        checkpoint: the networks.
        remarks: what the user should know.
        sizes_mb: size of each file of the folder.
    """

    checkpoint: Checkpoint
    remarks: tuple[str, ...]
    sizes_mb: dict[str, float]


def read_any(path: Path, skeleton_name: str | None = None) -> tuple[Checkpoint, list[str]]:
    """Read the authors' checkpoint or one of our own, without running code in it.

    Args:
        path: the file.
        skeleton_name: what the authors' file must be of; recognised when left out.

    Returns:
        The checkpoint, and remarks for the user.

    Raises:
        Ha2gError: it cannot be opened, names code, or does not hold what it must.
    """
    values = read_pickle(path)
    if is_saved(values):
        checkpoint = from_saved(values, path)
        found = checkpoint.network.config.skeleton
        if skeleton_name not in (None, found):
            raise Ha2gError(f"{path} is of {found}, not of {skeleton_name}: leave out --skeleton")
        return checkpoint, []
    try:
        return from_published(values, path.name, skeleton_name)
    except Ha2gError as error:
        raise Ha2gError(f"{path}: {error}") from error


def import_checkpoint(
    path: Path,
    out: Path,
    *,
    name: str | None = None,
    skeleton_name: str | None = None,
    force: bool = False,
) -> Imported:
    """Read a checkpoint, check it, and write the folder of a model.

    Args:
        path: the authors' file, or one of our own.
        out: folder to make.
        name: name of the model; the file's when left out.
        skeleton_name: one of ``ted.NAMES``; recognised when left out.
        force: put the folder in the place of a model that was imported before.

    Raises:
        Ha2gError: the checkpoint is refused, the folder is taken, or it cannot be written.
    """
    # The exporter needs one more package: not to be missed after minutes.
    from ha2g_live.training.ha2g.export import export_window_model

    path, out = Path(path), Path(out).absolute()
    _check_free(out, force)
    name = name or path.stem
    unfinished = out.with_name(f".{out.name}.part")
    with tqdm(total=_STAGES, unit="step", disable=None) as bar:
        bar.set_description(f"reading {path.name}")
        checkpoint, remarks = read_any(path, skeleton_name)
        try:
            bar.update()
            bar.set_description(f"writing {FILE_NAME}")
            shutil.rmtree(unfinished, ignore_errors=True)  # of an import that was killed
            unfinished.mkdir(parents=True)
            save_checkpoint(unfinished / FILE_NAME, checkpoint)
            bar.update()
            bar.set_description(f"writing and checking {MODEL_FILE}")
            export_window_model(checkpoint, unfinished / MODEL_FILE, name)
            about = _about(checkpoint, name, path)
            text = json.dumps(about, indent=1, ensure_ascii=False)
            (unfinished / ABOUT_NAME).write_text(text, encoding="utf-8")
            bar.update()
            _move(unfinished, out)
        except OSError as error:
            raise Ha2gError(
                f"{out} cannot be written ({error}): make room or choose another --out"
            ) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    sizes_mb = {file.name: file.stat().st_size / 1e6 for file in sorted(out.iterdir())}
    return Imported(checkpoint, tuple(remarks), sizes_mb)


def _about(checkpoint: Checkpoint, name: str, path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "skeleton": checkpoint.network.config.skeleton,
        "speakers": len(checkpoint.speakers),
        "words": len(checkpoint.words),
        "epoch": checkpoint.epoch,
        "parameters": checkpoint.parameters,
        "seed": checkpoint.seed,
        "reference": checkpoint.reference,
        "text": checkpoint.text,
        "source": checkpoint.source,
        "file": path.name,
        "file_sha256": digest.hexdigest(),
    }


def _check_free(out: Path, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_model(out):
        raise Ha2gError(f"{out} exists and is not an imported model: choose another --out")
    if not force:
        raise Ha2gError(f"{out} exists already: choose another --out, or replace it with --force")


def _is_model(folder: Path) -> bool:
    try:
        about = json.loads((folder / ABOUT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("format") == FORMAT


def _move(unfinished: Path, out: Path) -> None:
    """Give the folder its name; what had it goes last."""
    before = out.with_name(f".{out.name}.old")
    shutil.rmtree(before, ignore_errors=True)
    if out.exists():
        out.rename(before)
    try:
        unfinished.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _table(made: Imported) -> str:
    checkpoint = made.checkpoint
    config = checkpoint.network.config
    named = ", ".join(checkpoint.speakers[:_STYLES_SHOWN])
    more = ", .." if len(checkpoint.speakers) > _STYLES_SHOWN else ""
    rows = {
        "skeleton": f"{config.skeleton}, {len(checkpoint.network.skeleton.levels)} levels",
        "trained": f"{checkpoint.epoch} epochs, {'with' if checkpoint.text else 'without'} words",
        "speakers": f"{len(checkpoint.speakers)} ({named}{more})",
        "words": str(len(checkpoint.words)),
        "parameters": f"{checkpoint.parameters / 1e6:.1f} M",
        **{file: f"{made.sizes_mb[file]:.1f} MB" for file in (FILE_NAME, MODEL_FILE)},
        **{f"note {i}": remark for i, remark in enumerate(made.remarks, 1)},
    }
    return "\n".join(f"{key:<16}{value}" for key, value in rows.items())


def main(argv: list[str] | None = None) -> int:
    """The ``import`` command."""
    parser = Parser(
        prog="ha2g-live import",
        description="Make a model that streams of a published checkpoint of HA2G, or of the "
        "best.pt of a run of your own. No code in the file is run.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--name", help="name of the model (the file's)")
    parser.add_argument("--skeleton", choices=NAMES, help="recognised when left out")
    parser.add_argument("--force", action="store_true", help="replace a model imported before")
    options = parser.parse_args(argv)
    made = import_checkpoint(
        options.checkpoint,
        options.out,
        name=options.name,
        skeleton_name=options.skeleton,
        force=options.force,
    )
    print(_table(made))
    print(f"\nstream it:  ha2g-live --demo --model {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
