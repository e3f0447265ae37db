"""A training run of HA2G: its networks, its epochs, and what it keeps in its folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ha2g_live.engines.published import Discriminator, Draws, Ha2g, Ha2gConfig
from ha2g_live.engines.ted import SEED_FRAMES
from ha2g_live.realtime.errors import ConfigError, Ha2gError
from ha2g_live.training.ha2g.autoencoder import Features
from ha2g_live.training.ha2g.checkpoint import Checkpoint, save_checkpoint, save_tensors
from ha2g_live.training.ha2g.dataset import DataSet, Int64
from ha2g_live.training.ha2g.metrics import frechet_distance
from ha2g_live.training.ha2g.parallel import Team, share_norms
from ha2g_live.training.ha2g.progress import Row, plot, write_log
from ha2g_live.training.ha2g.settings import Settings
from ha2g_live.training.ha2g.step import (
    LONGEST_SEED,
    Batch,
    Step,
    TrainingError,
    read_batch,
    regression,
    usual_seeds,
)

BEST, LAST, LOG, CURVE = "best.pt", "last.pt", "log.csv", "curve.png"
FORMAT = "ha2g-live training run 1"
_SEED_LENGTHS = 1
"""Keeps the draws of seed lengths apart from those of the windows' order."""


class Trainer:
    """A run: networks, optimisers and the epochs so far.

    Args:
        dataset: what to train on.
        settings: how.
        team: the processes.
        features: what FGD is measured on.

    Raises:
        ConfigError: the batch does not fit the data set or the number of processes.
    """

    def __init__(
        self, dataset: DataSet, settings: Settings, team: Team, features: Features | None
    ) -> None:
        self.dataset, self.settings, self.team, self.features = dataset, settings, team, features
        name = dataset.skeleton.name
        self.batch = settings.batch_for(name)
        self._dtype = torch.float64 if settings.double else torch.float32
        self._check_batch()
        self.config = Ha2gConfig(
            name,
            len(dataset.speakers),
            len(dataset.words),
            settings.hidden,
            settings.channels[:4],  # type: ignore[arg-type]  # the settings checked that it is four
            settings.text_width,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = Ha2g(self.config)
            discriminator = Discriminator(dataset.skeleton.pose_dim)
        if team.world > 1:
            share_norms(network)
            share_norms(discriminator)
        self.step = Step(
            network.to(team.device, self._dtype),
            discriminator.to(team.device, self._dtype),
            settings.weights_for(name),
            settings.rate,
            (settings.beta1, settings.beta2),
            text=not settings.streaming,
            team=team,
        )
        self.rows: list[Row] = []

    @property
    def network(self) -> Ha2g:
        """The generator."""
        return self.step.network

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.rows)

    @property
    def batches(self) -> int:
        """Steps of an epoch; windows that do not fill a batch are left to other epochs."""
        return len(self.dataset.train) // self.batch

    def _check_batch(self) -> None:
        windows, world = len(self.dataset.train), self.team.world
        if windows < max(self.batch, world):
            raise ConfigError(
                f"{self.dataset.path} has {windows} training windows, fewer than a batch of "
                f"{self.batch}: choose a smaller --batch, or convert more data"
            )
        if self.batch % world:
            raise ConfigError(
                f"--batch {self.batch} cannot be shared equally by {world} processes: "
                f"choose a multiple of {world}"
            )
        if self.batch < 2 * world:  # batch norm and the style shuffle need company
            raise ConfigError(f"--batch must be at least 2 a process, got {self.batch}")

    # --- an epoch

    def run_epoch(self) -> Row:
        """Train on every window once, and validate.

        Raises:
            TrainingError: the loss is no longer finite, or the GPU's memory is full.
        """
        epoch, started_s = self.epoch + 1, time.monotonic()
        sums: dict[str, float] = {}
        bar = tqdm(
            self._epoch_batches(epoch),
            total=self.batches,
            desc=f"epoch {epoch}/{self.settings.epochs}",
            unit="batch",
            leave=False,
            disable=None if self.team.leads else True,  # None: shown on a terminal only
        )
        with bar:
            for number, batch in enumerate(bar, 1):
                draws = Draws(
                    _seed(self.settings.seed, epoch, number),
                    self.team.rank,
                    self.team.world,
                    self.team.device,
                )
                judged = epoch > self.settings.warmup_epochs
                try:
                    report = self.step.run(batch, draws, judged)
                except TrainingError as error:
                    raise TrainingError(
                        f"{error} in epoch {epoch}, batch {number}: {LAST} holds epoch "
                        f"{epoch - 1}; go on with a lower --rate in another --out"
                    ) from error
                except torch.cuda.OutOfMemoryError as error:
                    raise TrainingError(
                        f"the GPU's memory does not hold a batch of {len(batch.poses)} windows: "
                        "choose a smaller --batch, or use more GPUs"
                    ) from error
                for name, value in report.items():
                    sums[name] = sums.get(name, 0.0) + value
                shown = ("regression", "gan", "kl", "style", "contrast_high", "physical")
                bar.set_postfix({k: f"{report[k]:.3g}" for k in shown if k in report})
        row: Row = {"epoch": epoch, "batches": self.batches}
        row |= {name: value / self.batches for name, value in sums.items()}
        row |= self.validate()
        # Without validation windows nothing tells the epochs apart: the latest is the best.
        before = min((old["fgd"] for old in self.rows if "fgd" in old), default=np.inf)
        row["best"] = float(row.get("fgd", -np.inf) < before)
        row["seconds"] = round(time.monotonic() - started_s, 1)
        self.rows.append(row)
        return row

    def _epoch_batches(self, epoch: int) -> Iterator[Batch]:
        """The batches in their order; the next is read while one is used."""
        seed, shape = self.settings.seed, (self.batches, self.batch)
        order = np.random.default_rng((seed, epoch)).permutation(len(self.dataset.train))
        windows = order[: self.batches * self.batch].reshape(shape)
        seeds = np.full(shape, SEED_FRAMES, dtype=np.int64)
        if self.settings.streaming:
            rng = np.random.default_rng((seed, epoch, _SEED_LENGTHS))
            seeds = rng.integers(SEED_FRAMES, LONGEST_SEED + 1, shape)

        def read(i: int) -> Batch:
            return read_batch(
                *(self.dataset.train, windows[i], seeds[i], self.settings.streaming),
                *(self.team, self._dtype),
            )

        with ThreadPoolExecutor(1, thread_name_prefix="ha2g-batch") as reader:
            following = reader.submit(read, 0)
            for i in range(len(windows)):
                batch = following.result()
                if i + 1 < len(windows):
                    following = reader.submit(read, i + 1)
                yield batch

    @torch.inference_mode()
    def validate(self) -> Row:
        """Huber loss and FGD of the validation windows, each made from 4 true poses.

        Empty where there are fewer than 2 windows. The processes share the work.
        """
        split, features = self.dataset.val, self.features
        if len(split) < 2 or features is None:
            return {}
        count = min(self.settings.fgd_windows or len(split), len(split))
        chosen: Int64 = np.linspace(0, len(split) - 1, count).astype(np.int64)
        own = np.arange(count)[self.team.rank :: self.team.world]
        self.network.eval()
        losses, true, made = 0.0, [], []
        per_pass = max(1, self.batch // self.team.world)
        for first in range(0, len(own), per_pass):
            windows = chosen[own[first : first + per_pass]]
            batch = read_batch(
                *(split, windows, usual_seeds(len(windows)), self.settings.streaming),
                *(Team(device=self.team.device), self._dtype),
            )
            prediction = self.network(
                batch.spectrogram, batch.words, batch.speaker, batch.poses, batch.known
            )
            losses += float(regression(self.network, prediction, batch.poses)) * len(windows)
            true.append(features.of(batch.poses.float().cpu().numpy()))
            made.append(features.of(prediction.poses.float().cpu().numpy()))
        loss = self.team.add_up(torch.tensor(losses, dtype=torch.float64, device=self.team.device))
        return {
            "val_regression": float(loss) / count,
            "fgd": frechet_distance(
                self._together(true, own, count), self._together(made, own, count)
            ),
        }

    def _together(self, parts: list[Any], own: Int64, count: int) -> Any:
        """(count, latents) features of all processes, of which this one has rows ``own``."""
        assert self.features is not None
        latents = self.features.of(np.zeros((1, 34, self.dataset.skeleton.pose_dim), np.float32))
        every = torch.zeros(count, latents.shape[1], dtype=torch.float64, device=self.team.device)
        if parts:
            every[torch.from_numpy(own)] = torch.from_numpy(np.concatenate(parts)).to(every.device)
        return self.team.add_up(every).cpu().numpy()

    # --- files

    def checkpoint(self) -> Checkpoint:
        """The networks as they are, for use."""
        streaming = self.settings.streaming
        return Checkpoint(
            network=self.network,
            discriminator=self.step.discriminator,
            speakers=self.dataset.speakers,
            words=self.dataset.words,
            seed="all" if streaming else "start",
            reference="stream" if streaming else "clip",
            text=not streaming,
            epoch=self.epoch,
            source=f"trained on {self.dataset.source}",
        )

    def save(self, out: Path) -> None:
        """Write what the last epoch changed. ``last.pt`` decides what was done; it comes last but
        for the table and the plot, which are made from it.

        Raises:
            Ha2gError: the folder cannot be written to.
        """
        if self.rows[-1]["best"]:
            save_checkpoint(out / BEST, self.checkpoint())
        save_tensors(out / LAST, self._state(), "make room and run the same command again")
        self.show(out)

    def show(self, out: Path) -> None:
        """Write the table and the plot of the epochs so far."""
        write_log(out / LOG, self.rows)
        best = [row for row in self.rows if row["best"]]
        kind = "streaming HA2G" if self.settings.streaming else "HA2G"
        title = (
            f"{kind} on {self.dataset.path.name}: {len(self.dataset.train)} windows, "
            f"batch {self.batch}, best epoch {best[-1]['epoch']:.0f} of {self.epoch}"
        )
        plot(out / CURVE, self.rows, self.settings.warmup_epochs, title)

    def _state(self) -> dict[str, Any]:
        step = self.step
        return {
            "format": FORMAT,
            "settings": self.settings.as_dict(),
            "data": self._data(),
            "rows": self.rows,
            "network": step.network.state_dict(),
            "discriminator": step.discriminator.state_dict(),
            "optimiser": step.optimiser.state_dict(),
            "judge_optimiser": step.judge_optimiser.state_dict(),
        }

    def _data(self) -> dict[str, Any]:
        data = self.dataset
        return {
            "skeleton": data.skeleton.name,
            "speakers": list(data.speakers),
            "words": list(data.words),
            "windows": [len(data.train), len(data.val)],
        }

    def load(self, path: Path) -> None:
        """Go on from ``last.pt``.

        Raises:
            Ha2gError: it is damaged, or was made with other settings or data.
        """
        try:
            # To the CPU: the optimisers keep their step counts there, and copy what they need.
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["format"] != FORMAT:
                raise ValueError(f"its format is {saved['format']!r}")
        except Exception as error:  # torch raises many kinds for what is not a file of its own
            raise Ha2gError(
                f"{path} is damaged or not of this program ({str(error).splitlines()[0]}): "
                "remove it, or choose another --out"
            ) from error
        self.settings.check_same(saved["settings"], str(path))
        if saved["data"] != self._data():
            raise ConfigError(
                f"{path} was trained on other data than {self.dataset.path}: choose another --out"
            )
        self.rows = saved["rows"]
        step = self.step
        step.network.load_state_dict(saved["network"])
        step.discriminator.load_state_dict(saved["discriminator"])
        step.optimiser.load_state_dict(saved["optimiser"])
        step.judge_optimiser.load_state_dict(saved["judge_optimiser"])


def _seed(*names: int) -> int:
    return int(np.random.SeedSequence(names).generate_state(1)[0])
