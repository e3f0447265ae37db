"""A checkpoint of HA2G as the ONNX model that streams.

What does not change while a stream runs is folded in: words (there are none live, so each level's
text feature is a constant), weight norm, batch norm. The speaker stays an input, and so does the
noise of z, which a stream draws once and keeps.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import SPEC_KEY, ModelSpec
from ha2g_live.engines.published import Ha2g
from ha2g_live.engines.ted import SEED_FRAMES, WINDOW_FRAMES
from ha2g_live.engines.timing import WindowSpec
from ha2g_live.engines.window import seeded
from ha2g_live.realtime.errors import Ha2gError, MissingExtra
from ha2g_live.realtime.features import DYNAMIC_RANGE_DB

if TYPE_CHECKING:
    from ha2g_live.training.ha2g.checkpoint import Checkpoint

try:
    import onnx
except ImportError as error:
    raise MissingExtra("the exporter", str(error.name), "train") from error

_OPSET = 17
_TOLERANCE = 1e-4
_GRU_INITIAL_STATE = 5  # its place among the inputs of an ONNX GRU


class StreamedHa2g(nn.Module):
    """The generator as a stream calls it: live features in, no words.

    The live features are 1 at the reference level and -1 80 dB below it
    (``realtime.features.log_mel``); the network takes decibels from -80 to 0.
    """

    def __init__(self, network: Ha2g) -> None:
        super().__init__()
        self.network = network
        no_words = torch.zeros(1, WINDOW_FRAMES, dtype=torch.int64)
        with torch.no_grad():
            for level, text in enumerate(network.texts(no_words)):
                self.register_buffer(f"text{level}", text)

    def forward(
        self, audio: Tensor, style: Tensor, noise: Tensor, given: Tensor, known: Tensor
    ) -> Tensor:
        """See ``engines.window.WindowModel.predict`` for the shapes."""
        levels = len(self.network.poses)
        half_range_db = DYNAMIC_RANGE_DB / 2
        decibels = ((audio - 1.0) * half_range_db).clamp(-DYNAMIC_RANGE_DB, 0.0)
        blended, _ = self.network.blend(decibels.transpose(1, 2), style)
        nothing = torch.zeros_like(known)[:, :, None]
        texts = [self.get_buffer(f"text{level}") + nothing for level in range(levels)]
        z_noise = noise.reshape(-1, levels, self.network.config.style)
        return self.network.cascade(blended, texts, style, given, known, z_noise).poses


def window_spec(checkpoint: Checkpoint, name: str) -> ModelSpec:
    """What the exported model says of itself."""
    config = checkpoint.network.config
    return ModelSpec(
        name=name,
        version=f"epoch {checkpoint.epoch}",
        styles=checkpoint.speakers,
        choices=(),
        state={},
        windows=WindowSpec(
            skeleton=config.skeleton,
            seed=checkpoint.seed,
            noise=len(checkpoint.network.poses) * config.style,
        ),
    )


def export_window_model(checkpoint: Checkpoint, path: Path, name: str) -> ModelSpec:
    """Write the ONNX model and hold it against the network.

    Args:
        checkpoint: what to export.
        path: the file to write.
        name: name of the model, for its user.

    Raises:
        Ha2gError: ONNX Runtime does not answer as the network does.
    """
    streamed = StreamedHa2g(checkpoint.network.eval()).eval()
    spec = window_spec(checkpoint, name)
    example = _example(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        torch.onnx.export(
            streamed,
            tuple(torch.from_numpy(value) for value in example.values()),
            str(path),
            input_names=list(example),
            output_names=["poses"],
            dynamic_axes={binding: {0: "batch"} for binding in (*example, "poses")},
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "GRU":  # it starts at zero by itself, without a computed shape
            del node.input[_GRU_INITIAL_STATE:]
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.to_json()})
    onnx.save(model, str(path))
    _check(streamed, path, example)
    return spec


def _example(spec: ModelSpec) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Two windows of plausible inputs."""
    rng = np.random.default_rng(0)
    shapes = spec.inputs(2)
    example = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    example["audio"] = rng.uniform(-1, 1, shapes["audio"]).astype(np.float32)
    example["style"] = spec.style_vector(batch=2)
    example["given"], example["known"] = seeded(0.3 * example["given"][:, :SEED_FRAMES])
    return example


def _check(
    streamed: StreamedHa2g,
    path: Path,
    example: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
) -> None:
    import onnxruntime

    open_engine("onnx", path).close()  # holds the bindings against the contract
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["poses"], example)
    with torch.inference_mode():
        expected = streamed(*(torch.from_numpy(value) for value in example.values())).numpy()
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not difference <= _TOLERANCE:
        raise Ha2gError(f"{path} differs from the network by {difference:.1e}: not exported well")
