"""``ha2g-live train --recipe ha2g``: trains the published system (section 3.4, and supplement).

A run's folder holds ``best.pt`` (a ``Checkpoint``, of the epoch with the lowest FGD on the
validation windows), ``last.pt`` (all that is needed to go on), ``log.csv`` and ``curve.png``. The
same command goes on from ``last.pt``. All randomness comes from (seed, epoch, batch), so a run that
was killed and goes on equals one that was not, on a CPU with the same number of threads exactly.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.realtime.options import Parser, say
from ha2g_live.realtime.signals import interrupting
from ha2g_live.training.ha2g.autoencoder import (
    AutoencoderConfig,
    Features,
    import_autoencoder,
    own_autoencoder,
)
from ha2g_live.training.ha2g.dataset import DataSet, open_dataset
from ha2g_live.training.ha2g.embeddings import read_embeddings, set_embeddings
from ha2g_live.training.ha2g.parallel import Team, join, this_rank
from ha2g_live.training.ha2g.progress import COLUMNS, Row
from ha2g_live.training.ha2g.run import BEST, LAST, Trainer
from ha2g_live.training.ha2g.settings import Settings, add_options, from_options


class _Board:
    """The epochs for TensorBoard, where that is wanted."""

    def __init__(self, wanted: bool, out: Path, epoch: int) -> None:
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ConfigError(
                    "--tensorboard needs the package 'tensorboard': run  pip install tensorboard"
                ) from error
            # What an epoch in flight left behind is hidden by the step number.
            self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=epoch + 1)

    def add(self, row: Row) -> None:
        if self._writer is not None:
            for name, value in row.items():
                if name in COLUMNS and name not in ("epoch", "batches", "best"):
                    self._writer.add_scalar(name, value, int(row["epoch"]))
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def train(
    dataset: DataSet,
    out: Path,
    settings: Settings,
    team: Team,
    embeddings: Path | None = None,
    autoencoder: Path | None = None,
    tensorboard: bool = False,
) -> Trainer:
    """Train to ``settings.epochs``, going on from ``out`` if it was begun there.

    Args:
        dataset: what to train on.
        out: folder of the run.
        settings: how.
        team: the processes, see ``parallel.join``.
        embeddings: file of word vectors; drawn when left out.
        autoencoder: file of a motion autoencoder for FGD; our own when left out.
        tensorboard: write a log for it too.

    Raises:
        Ha2gError: bad settings, a folder that cannot be written to, or a loss that is not finite.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    # Dropout between the layers needs them one by one, which cuDNN's one block of weights is not.
    warnings.filterwarnings("ignore", message="RNN module weights are not part of single")
    trainer = Trainer(dataset, settings, team, None)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Ha2gError(f"{out} cannot be made ({error}): choose another --out") from error
    going_on = (out / LAST).exists()
    if going_on:
        trainer.load(out / LAST)
    elif embeddings is not None:
        vectors = read_embeddings(embeddings, dataset.words, settings.text_width)
        set_embeddings(trainer.network, vectors)
        if team.leads:
            say(f"{embeddings} has {len(vectors)} of {len(dataset.words)} words; others are drawn")
    board = _Board(tensorboard and team.leads, out, trainer.epoch)
    trainer.features = _features(dataset, settings, team, autoencoder)
    if team.leads:
        _introduce(trainer, going_on)
        if going_on:
            trainer.show(out)
    while trainer.epoch < settings.epochs:
        row = trainer.run_epoch()
        if team.leads:
            trainer.save(out)
            board.add(row)
            say(_line(row, settings))
    board.close()
    return trainer


def _features(
    dataset: DataSet, settings: Settings, team: Team, autoencoder: Path | None
) -> Features | None:
    """The autoencoder for FGD. The first process trains it where there is none yet."""
    if len(dataset.val) < 2:
        if team.leads:
            say(f"{dataset.path} has no validation windows: the latest epoch is kept as the best")
        return None
    if autoencoder is not None:
        name, dim = dataset.skeleton.name, dataset.skeleton.pose_dim
        features = import_autoencoder(autoencoder, name, dim)
    else:
        config = AutoencoderConfig(steps=settings.autoencoder_steps)
        if not team.leads:
            team.wait()  # for the file that the first process writes
        features = own_autoencoder(dataset, config, quiet=not team.leads)
        if team.leads:
            team.wait()
    if team.leads:
        kind = "imported" if features.imported else "not comparable with published scores"
        say(f"FGD is measured with the autoencoder {features.source} ({kind})")
    return features


def _introduce(trainer: Trainer, going_on: bool) -> None:
    team, dataset = trainer.team, trainer.dataset
    size = sum(value.numel() for value in trainer.network.parameters()) / 1e6
    processes = "1 process" if team.world == 1 else f"{team.world} processes"
    say(
        f"{dataset.skeleton.name}, {size:.1f} M parameters, {len(dataset.train)} windows, "
        f"{trainer.batches} batches of {trainer.batch}, {processes} on {team.device.type}"
        + (f"; going on after epoch {trainer.epoch}" if going_on else "")
    )


def _line(row: Row, settings: Settings) -> str:
    shown = {name: row[name] for name in ("regression", "val_regression", "fgd") if name in row}
    text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
    best = ", best so far" if row["best"] and "fgd" in row else ""
    return f"epoch {row['epoch']:.0f}/{settings.epochs}: {text}{best}, {row['seconds']:.0f} s"


def _parser() -> Parser:
    parser = Parser(
        prog="ha2g-live train --recipe ha2g",
        description="Train the published HA2G system on a converted data set. Run the same command "
        "again to go on. Several GPUs: torchrun --nproc-per-node N -m "
        "ha2g_live.training.ha2g.trainer OPTIONS.",
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="a GPU if there is one")
    parser.add_argument("--embeddings", type=Path, metavar="FILE", help="word vectors, plain text")
    parser.add_argument(
        "--autoencoder", type=Path, metavar="FILE", help="motion autoencoder for FGD (our own)"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write a log for TensorBoard")
    add_options(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The ``train --recipe ha2g`` command.

    Returns:
        0; 2 after a mistake, 130 after Ctrl-C, both reported in one line.
    """
    options = _parser().parse_args(argv)
    leads = this_rank() == 0
    try:
        with interrupting():
            team = join(options.device)
            train(
                open_dataset(options.dataset),
                options.out,
                from_options(options),
                team,
                options.embeddings,
                options.autoencoder,
                options.tensorboard,
            )
            team.close()
    except Ha2gError as error:
        if not leads:
            # The first process has most likely met the same and says it; if not, it is ours to say.
            time.sleep(1.0)
        say(str(error) if leads else f"process {this_rank()}: {error}")
        return 2
    except KeyboardInterrupt:
        if leads:
            say(f"stopped; {options.out} holds the finished epochs: run it again to go on")
        return 130
    if leads:
        say(f"wrote {options.out / BEST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
