"""Writes a trained network as an ONNX model that carries its spec and its model card.

ha2g-live export run/checkpoint.pt --out model.onnx
"""

from __future__ import annotations

import math
import sys
import warnings
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ha2g_live.engines import open_engine
from ha2g_live.engines.base import REST, SPEC_KEY, ModelSpec, resting_of
from ha2g_live.engines.network import LiveNetwork, NetworkConfig
from ha2g_live.realtime.errors import Ha2gError
from ha2g_live.realtime.features import silent_columns
from ha2g_live.realtime.options import Parser
from ha2g_live.realtime.timebase import COLUMNS_PER_STEP, POSE_FPS
from ha2g_live.realtime.types import F32
from ha2g_live.training.trainer import load_checkpoint

CARD_KEY = "model_card"
DEFAULT_STYLE = "natural"
SETTLE_S = 4.0
SHIFTS_RARER = 10.0
"""How much rarer weight shifts are at run time than in the corpus."""
_OPSET = 17
_TOLERANCE = 1e-4

MODEL_CARD = """\
# {name} {version}

Live co-speech gesture: sound in, directions of 42 upper-body bones out, 15 poses a second, three
ahead of the sound. Causal network after HA2G (Liu et al., CVPR 2022). {parameters:,} parameters,
trained for {steps} steps, exported {date}.

Use: moving an avatar by a voice. It knows when a voice speaks and how strongly, not what it says:
its gestures carry rhythm, not meaning. It runs where the voice is; no sound leaves the machine.
Styles: {styles}.

Training data: pseudo-paired. No pair of speech and motion in it belongs together: recorded speech
was combined with recorded gesture clips by a planner, by rules. The model can be no better than
those; scores on held-out data say how well it learnt the planner, not how human it looks.
- Speech: LibriSpeech, (c) 2014 Vassil Panayotov, CC BY 4.0. Asterisk core sounds (Russian),
  CC BY 3.0. English and some Russian, read aloud; cut into streams and disturbed.
- Gesture clips: SmartBody, motions of ChrBrad, ChrConnor and ChrGarza (LGPL-2.1, no separate
  licence for the motions). The clips themselves are not part of this file.
- Idle clips: Microsoft Rocketbox f_idle_neutral_01, MIT, (c) 2020 Microsoft. High Fidelity avatar
  idle, Apache-2.0.

Weights: Apache-2.0.

Limits: few kinds of gesture, adult voices reading aloud, one body. It was not tested on
spontaneous talk, singing, several voices at once or children's voices. It cannot tell whose voice
it hears. More: docs/model-card.md, docs/evaluation.md.
"""


class _Flat(nn.Module):
    """The network with its state as separate inputs and outputs, as ONNX wants it."""

    def __init__(self, network: LiveNetwork, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, audio: Tensor, style: Tensor, noise: Tensor, *state: Tensor) -> list[Tensor]:
        """Directions, then the new state in the order of ``names``."""
        directions, after = self.network(
            audio, style, noise, dict(zip(self.names, state, strict=True))
        )
        return [directions, *(after[name] for name in self.names)]


def export_checkpoint(checkpoint: Path, out: Path, name: str, version: str) -> ModelSpec:
    """Export the averaged weights of a checkpoint.

    Raises:
        Ha2gError: the checkpoint cannot be read, or the exported model does not compute what the
            network computes.
    """
    saved = load_checkpoint(checkpoint)
    config = NetworkConfig(
        len(saved["styles"]), len(saved["choices"]), resting=resting_of(saved["choices"])
    )
    network = LiveNetwork(config)
    network.load_state_dict(saved["average"])
    _make_rarer(network, saved["choices"])
    spec = ModelSpec(
        name,
        version,
        tuple(saved["styles"]),
        tuple(saved["choices"]),
        config.state_shapes,
        default_style=DEFAULT_STYLE if DEFAULT_STYLE in saved["styles"] else "",
    )
    card = MODEL_CARD.format(
        name=name,
        version=version,
        parameters=sum(p.numel() for p in network.parameters()),
        steps=saved["step"],
        date=datetime.now(timezone.utc).date().isoformat(),
        styles=", ".join(spec.styles),
    )
    spec = spec.at_rest(_silent_state(network, spec))
    export_network(network, spec, out, card)
    _check(network, out)
    return spec


def _make_rarer(network: LiveNetwork, choices: list[str]) -> None:
    """Shift the odds of restless ways to rest.

    In the corpus somebody at rest now and then shifts their weight, so that the network sees
    enough of it to learn it. An avatar that waits for minutes does so more rarely. A constant
    added to the log odds is just that change of the prior.
    """
    rows = [1 + i for i, name in enumerate(choices) if name.startswith(REST) and "shift" in name]
    with torch.no_grad():
        network.odds.bias[rows] -= math.log(SHIFTS_RARER)


@torch.inference_mode()
def _silent_state(network: LiveNetwork, spec: ModelSpec) -> dict[str, F32]:
    """The state after some seconds of silence, so that a stream begins like somebody who waits.

    From zeros the network would first have to find its way from the mean pose to rest, and would
    miss what is said meanwhile.
    """
    network.eval()
    state = {name: torch.from_numpy(value) for name, value in spec.initial_state().items()}
    silence = torch.from_numpy(silent_columns(COLUMNS_PER_STEP))[None]
    style = torch.from_numpy(spec.style_vector())
    noise = torch.zeros(1, spec.noise_size)
    for _ in range(round(SETTLE_S * POSE_FPS)):
        _, state = network(silence, style, noise, state)
    return {name: value.numpy() for name, value in state.items()}


def export_network(network: LiveNetwork, spec: ModelSpec, out: Path, card: str = "") -> None:
    """Write ``network`` as ONNX, every weight under its parameter's name."""
    names = list(spec.state)
    flat = _Flat(network.eval(), names)
    shapes = spec.inputs(2)
    example = tuple(torch.zeros(shape) for shape in shapes.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own future
        torch.onnx.export(
            flat,
            example,
            str(out),
            input_names=list(shapes),
            output_names=list(spec.outputs(2)),
            dynamic_axes={binding: {0: "batch"} for binding in (*shapes, *spec.outputs(2))},
            opset_version=_OPSET,
            do_constant_folding=False,  # it would transpose weights and lose their names
            dynamo=False,
        )
    model = onnx.load(str(out))
    _restore_names(model, network)
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.to_json(), CARD_KEY: card})
    onnx.checker.check_model(model)
    onnx.save(model, str(out))


def _restore_names(model: onnx.ModelProto, network: LiveNetwork) -> None:
    """Give the initialisers back the names of their parameters.

    Raises:
        Ha2gError: the exporter rewrote a weight, so that it cannot be found again.
    """
    prefix = "network."
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.removeprefix(prefix)
    for node in model.graph.node:
        for i, value in enumerate(node.input):
            node.input[i] = value.removeprefix(prefix)
    kept = {tensor.name for tensor in model.graph.initializer}
    lost = [name for name in network.state_dict() if name not in kept]
    if lost:
        raise Ha2gError(f"the exporter rewrote the weights {lost}: use another torch version")


def _check(network: LiveNetwork, path: Path) -> None:
    """Run 30 steps of noise through the network and the exported model, and compare."""
    engine = open_engine("onnx", path)
    rng = np.random.default_rng(0)
    ours = engine.spec.initial_state(2)
    theirs = {name: torch.from_numpy(value) for name, value in ours.items()}
    for _ in range(30):
        inputs = {
            name: rng.standard_normal(shape).astype(np.float32)
            for name, shape in engine.spec.inputs(2).items()
            if name in ("audio", "style", "noise")
        }
        found, ours = engine.step(**inputs, state=ours)
        with torch.inference_mode():
            expected, theirs = network(
                *(torch.from_numpy(value) for value in inputs.values()), theirs
            )
        difference = float(np.abs(found - expected.numpy()).max())
        if difference > _TOLERANCE:
            raise Ha2gError(
                f"{path} differs from the network by {difference:.1e}: not exported well"
            )


def main(argv: list[str] | None = None) -> int:
    """The ``export`` command."""
    parser = Parser(
        prog="ha2g-live export", description="Write a trained network as an ONNX model."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path("model.onnx"))
    parser.add_argument("--name", default="ha2g-live")
    parser.add_argument("--model-version", default="0.1")
    options = parser.parse_args(argv)
    spec = export_checkpoint(options.checkpoint, options.out, options.name, options.model_version)
    size_mb = options.out.stat().st_size / 1e6
    print(
        f"wrote {options.out} ({size_mb:.1f} MB): styles {', '.join(spec.styles)}; "
        f"{len(spec.choices)} choices",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
