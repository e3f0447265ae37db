"""Holds the networks and losses against measured values of the published ones.

    python -m ha2g_live.training.golden FILE.npz

A file of networks names a ``salt``, from which all weights are drawn, the inputs, and what the
published networks answer. A file of losses holds inputs and the published value of each loss. Every
output is computed anew; one line each gives the largest difference relative to the largest
magnitude. The exit status is 1 where one is over its tolerance.

Weights: the tensor ``part/name`` is drawn from a generator seeded by the CRC-32 of
``salt/part/name`` (``drawn``), so anyone can make the same networks.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ha2g_live.engines import window
from ha2g_live.engines.published import Discriminator, Ha2g, Ha2gConfig
from ha2g_live.engines.ted import NAMES, SEED_FRAMES, skeleton
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.types import F32
from ha2g_live.training.ha2g import losses
from ha2g_live.training.ha2g.parts import load_parts, names_of

NETWORK_TOLERANCE = 2e-6
LOSS_TOLERANCE = 1e-6
SPEAKERS, WORDS = 7, 50
_SETS = ("expressive", "gesture")

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One compared output.

    Attributes:
        name: its name in the file.
        error: largest difference over the largest magnitude.
        tolerance: what is allowed.
    """

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether it is within the tolerance; NaN never is."""
        return self.error <= self.tolerance


def drawn(salt: str, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The value of one tensor, ``name`` is ``part/tensor``."""
    seed = zlib.crc32(f"{salt}/{name}".encode())
    x = np.random.RandomState(seed).standard_normal(shape)
    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if kind == "running_var":
        x = 0.5 + np.abs(x)
    elif kind == "running_mean":
        x = 0.1 * x
    elif kind == "weight_g":
        x = 1.0 + 0.1 * x
    elif len(shape) >= 2:
        x = x / np.sqrt(np.prod(shape[1:]))
    elif kind == "weight":
        x = 1.0 + 0.1 * x
    else:
        x = 0.05 * x
    return np.asarray(x, dtype=np.float32)


def golden_network(salt: str, which: str) -> tuple[Ha2g, Discriminator]:
    """The generator and the discriminator of ``expressive`` or ``gesture`` with drawn weights."""
    network = Ha2g(Ha2gConfig(f"ted_{which}", SPEAKERS, WORDS))
    discriminator = Discriminator(network.skeleton.pose_dim)
    parts = {
        part: {
            name: torch.from_numpy(drawn(salt, f"{which}/{part}/{name}", shape))
            for name, shape in names.items()
        }
        for part, names in names_of(network, discriminator).items()
    }
    load_parts(network, discriminator, parts)
    return network.eval(), discriminator.eval()


def network_outputs(
    network: Ha2g, discriminator: Discriminator, inputs: Arrays
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Every output that a file of networks holds, by its name there without the set's.

    Args:
        network: the generator.
        discriminator: likewise.
        inputs: ``spectrogram`` (n, 128, 70), ``words`` (n, 34), ``speaker`` (1,), ``seed`` (4, D).
    """
    spectrogram = torch.from_numpy(inputs["spectrogram"])
    words, speaker = torch.from_numpy(inputs["words"]), torch.from_numpy(inputs["speaker"])
    yield "blend_weight", network.audio.blend_weights(speaker).numpy()
    blend, depths = network.blend(spectrogram[:1], speaker)
    for name, depth in zip(("low", "mid", "high"), depths, strict=True):
        yield f"feat_{name}", depth.numpy()
    yield "blend", torch.stack(blend).numpy()
    yield "text_feat", network.text(words[:1]).numpy()
    seed: F32 = inputs["seed"]
    windows: list[F32] = []
    for n in range(len(spectrogram)):
        given, known = seeded(seed)
        found = network(spectrogram[n : n + 1], words[n : n + 1], speaker, given, known)
        if n == 0:
            for level, poses in enumerate(found.levels, 1):
                yield f"level{level}", poses.numpy()
            yield "discriminator", discriminator(found.poses).numpy()
        windows.append(found.poses[0].numpy())
        seed = windows[-1][-SEED_FRAMES:]
    yield "windows", np.stack(windows)
    joined = windows[0][None]
    for following in windows[1:]:
        joined = window.extended(joined, following[None])
    yield "joined", joined[0]


def seeded(seed: F32) -> tuple[Tensor, Tensor]:
    """(n, D) poses at a window's start as (1, 34, D) given poses and (1, 34) flags."""
    given, known = window.seeded(seed[None])
    return torch.from_numpy(given), torch.from_numpy(known)


def loss_outputs(arrays: Arrays) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Every loss that a file of losses holds, by name."""
    inputs = {name: torch.from_numpy(value) for name, value in arrays.items() if value.ndim}
    yield (
        "contrastive",
        losses.contrastive(inputs["text_feat"], inputs["audio_feat"]).numpy(),
    )
    dim = inputs["pose"].shape[-1]
    named = {skeleton(name).pose_dim: skeleton(name) for name in NAMES}
    if dim not in named:
        raise Ha2gError(f"a pose has {dim} numbers, expected one of {sorted(named)}")
    body = losses.PhysicalLoss(named[dim])
    yield "physical", body(inputs["pose"]).numpy()
    yield "huber_beta_0_1", losses.huber(inputs["pose"], inputs["target"], 0.1).numpy()


def compare(arrays: Arrays) -> Iterator[Row]:
    """Recompute and compare everything in a file of either kind.

    Raises:
        Ha2gError: the file is of neither kind, or something that it must hold is missing.
    """
    present = [which for which in _SETS if f"{which}/spectrogram" in arrays]
    try:
        with torch.inference_mode():
            if present:
                salt = str(arrays["salt"])
                for which in present:
                    inputs = {
                        name.split("/", 1)[1]: value
                        for name, value in arrays.items()
                        if name.startswith(f"{which}/")
                    }
                    outputs = network_outputs(*golden_network(salt, which), inputs)
                    for name, found in outputs:
                        yield _row(f"{which}/{name}", found, inputs[name], NETWORK_TOLERANCE)
            elif "contrastive" in arrays:
                for name, found in loss_outputs(arrays):
                    yield _row(name, found, arrays[name], LOSS_TOLERANCE)
            else:
                raise Ha2gError("it holds neither networks nor losses")
    except KeyError as error:
        raise Ha2gError(f"it lacks the entry {error}") from error


def _row(name: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], tolerance: float) -> Row:
    if found.shape != expected.shape:
        raise Ha2gError(f"{name} has the shape {expected.shape}, the network's is {found.shape}")
    difference = np.abs(found.astype(np.float64) - expected).max()
    return Row(name, float(difference / np.abs(expected).max()), tolerance)


def main(argv: list[str] | None = None) -> int:
    """Compare one file and print a line for each output."""
    parser = Parser(
        prog="python -m ha2g_live.training.golden",
        description="Hold the networks or the losses against measured values.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.npz")
    options = parser.parse_args(argv)
    try:
        with options.file.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        parser.error(f"{options.file} cannot be read as a file of golden values ({error})")
    rows = []
    try:
        for row in compare(arrays):
            rows.append(row)
            verdict = "ok" if row.passed else f"OVER {row.tolerance:g}"
            print(f"{row.name:<28}{row.error:10.2e}  {verdict}", flush=True)
    except (Ha2gError, RuntimeError) as error:
        parser.error(f"{options.file}: {str(error).splitlines()[0]}")
    failed = sum(not row.passed for row in rows)
    print(f"{len(rows)} outputs, {failed} over tolerance")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
