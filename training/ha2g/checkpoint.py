"""A trained network in a file of our own.

The file holds plain values and tensors by their published names, each once. It is read without
running code in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ha2g_live.engines.published import Discriminator, Ha2g, Ha2gConfig
from ha2g_live.engines.ted import skeleton
from ha2g_live.engines.timing import SEEDS
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.training.ha2g.dataset import REFERENCES
from ha2g_live.training.ha2g.parts import modules_of

FORMAT = "ha2g-live checkpoint"
VERSION = 1
FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Trained networks and what is needed to use them.

    Attributes:
        network: the generator, in evaluation mode when it was loaded.
        discriminator: likewise.
        speakers: name of each row of the speaker embedding.
        words: each row of the word embedding; 0 is "no word starts here".
        seed: "start" for networks trained with 4 given poses, as published; "all" for those
            trained with any number of them from 4 to 33.
        reference: what a spectrogram's 0 dB is, see ``dataset.Split.spectrogram``.
        text: whether it was trained with words.
        epoch: number of the training epoch.
        source: what it was made from, for people.
    """

    network: Ha2g
    discriminator: Discriminator
    speakers: tuple[str, ...]
    words: tuple[str, ...]
    seed: Literal["start", "all"]
    reference: Literal["clip", "stream"]
    text: bool
    epoch: int
    source: str

    @property
    def parameters(self) -> int:
        """Trained numbers of the generator."""
        return sum(value.numel() for value in self.network.parameters())


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a crash while writing leaves the file that was there.

    Raises:
        Ha2gError: it cannot be written.
    """
    modules = modules_of(checkpoint.network, checkpoint.discriminator)
    values = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.network.config.as_dict(),
        "speakers": list(checkpoint.speakers),
        "words": list(checkpoint.words),
        "seed": checkpoint.seed,
        "reference": checkpoint.reference,
        "text": checkpoint.text,
        "epoch": checkpoint.epoch,
        "source": checkpoint.source,
        "parts": {
            part: {name: value.detach().cpu() for name, value in module.state_dict().items()}
            for part, module in modules.items()
        },
    }
    save_tensors(Path(path), values, "make room or choose another place")


def save_tensors(path: Path, values: dict[str, Any], advice: str) -> None:
    """Write a file of torch; a crash while writing leaves the file that was there.

    Args:
        path: the file; its folder is made.
        values: plain values and tensors.
        advice: what the user can do where it cannot be written.

    Raises:
        Ha2gError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(values, unfinished)
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
        unfinished.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise Ha2gError(f"{path} cannot be written ({reason}): {advice}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or the ``checkpoint.pt`` of a folder, without running code in it.

    Raises:
        Ha2gError: it is missing, damaged, or not a checkpoint of this program.
    """
    path = Path(path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise Ha2gError(
            f"there is no checkpoint {file}: import one with  ha2g-live import  or train one with  "
            "ha2g-live train --recipe ha2g"
        )
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what is not a file of its own
        raise Ha2gError(
            f"{file} is damaged or not a checkpoint of this program: a published one is opened "
            "with  ha2g-live import"
        ) from error
    return from_saved(saved, file)


def is_saved(values: Any) -> bool:
    """Whether these values, read from a file, are of our own format."""
    return isinstance(values, dict) and values.get("format") == FORMAT


def from_saved(values: Any, file: Path) -> Checkpoint:
    """Make a checkpoint of the values that a file of ours holds.

    Raises:
        Ha2gError: they are not, or not of this version, or do not fit each other.
    """
    if not is_saved(values):
        raise Ha2gError(
            f"{file} is not a checkpoint of this program: a published one is opened with  "
            "ha2g-live import"
        )
    if values.get("version") != VERSION:
        raise Ha2gError(
            f"{file} has version {values.get('version')} of the format, this program reads "
            f"{VERSION}: train or import again"
        )
    try:
        config = Ha2gConfig.from_dict(values["config"])
        speakers, words = tuple(map(str, values["speakers"])), tuple(map(str, values["words"]))
        if (len(speakers), len(words)) != (config.speakers, config.words):
            raise ValueError("its vocabularies do not fit its networks")
        if values["seed"] not in SEEDS or values["reference"] not in REFERENCES:
            raise ValueError(f"seed {values['seed']!r}, reference {values['reference']!r}")
        network, discriminator = _filled(config, values["parts"])
        return Checkpoint(
            network,
            discriminator,
            speakers,
            words,
            values["seed"],
            values["reference"],
            bool(values["text"]),
            int(values["epoch"]),
            str(values["source"]),
        )
    except (Ha2gError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise Ha2gError(f"{file} is damaged ({reason}): train or import again") from error


def _filled(
    config: Ha2gConfig, parts: Mapping[str, Mapping[str, Tensor]]
) -> tuple[Ha2g, Discriminator]:
    # A network without memory first: the sizes are not believed before the tensors are there.
    with torch.device("meta"):
        expected = modules_of(Ha2g(config), Discriminator(skeleton(config.skeleton).pose_dim))
    for part, module in expected.items():
        found = {name: tuple(value.shape) for name, value in parts[part].items()}
        wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                raise ValueError(
                    f"{part}: {name} has the shape {found.get(name)}, expected {wanted.get(name)}"
                )
    network, discriminator = Ha2g(config), Discriminator(skeleton(config.skeleton).pose_dim)
    for part, module in modules_of(network, discriminator).items():
        module.load_state_dict(dict(parts[part]))
    return network.eval(), discriminator.eval()
