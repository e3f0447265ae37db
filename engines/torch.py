"""The reference engine: the network's own definition in PyTorch, on the CPU.

It reads the same model file as the others. The exporter of the live network keeps every weight
under its parameter's name, so the file's weights are loaded straight into ``LiveNetwork``. An
imported model is read from the checkpoint that lies beside its model file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ha2g_live.engines.base import Engine, ModelSpec, State
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.errors import MissingExtra, ModelError
from ha2g_live.realtime.types import F32

try:
    import onnx
    import torch
except ImportError as error:
    raise MissingExtra("the torch engine", str(error.name), "train") from error

from ha2g_live.engines.network import LiveNetwork, NetworkConfig


class TorchEngine:
    """Steps a live model in PyTorch."""

    def __init__(self, network: LiveNetwork, spec: ModelSpec, threads: int) -> None:
        self._network = network.eval()
        self._spec = spec
        self._threads = threads

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""
        return self._spec

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """One step; see ``engines.base.Engine``."""
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            directions, after = self._network(
                torch.from_numpy(np.ascontiguousarray(audio)),
                torch.from_numpy(np.ascontiguousarray(style)),
                torch.from_numpy(np.ascontiguousarray(noise)),
                {name: torch.from_numpy(value) for name, value in state.items()},
            )
        return directions.numpy(), {name: after[name].numpy() for name in self._spec.state}

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""


class TorchWindows:
    """Runs the windows of a published model in PyTorch; see ``window.WindowModel``."""

    def __init__(self, checkpoint: Path, threads: int) -> None:
        # Only here: this engine is the one that knows the networks themselves.
        from ha2g_live.training.ha2g.checkpoint import load_checkpoint
        from ha2g_live.training.ha2g.export import StreamedHa2g

        self._network = StreamedHa2g(load_checkpoint(checkpoint).network.eval()).eval()
        self._threads = threads

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        """One window."""
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            inputs = (torch.tensor(value) for value in (audio, style, noise, given, known))
            poses: F32 = self._network(*inputs).numpy()
        return poses

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""


def open_engine(path: Path, threads: int, hop_frames: int | None = None) -> Engine:
    """Open ``path`` on ``threads`` CPU threads.

    Args:
        path: an exported model of either kind.
        threads: CPU threads of one step.
        hop_frames: pose frames from one window to the next, for a window model.

    Raises:
        ConfigError: the hop is out of its range.
        ModelError: the file cannot be loaded, or its weights do not fit the network.
    """
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises classes of its own
        raise ModelError(f"{path} is not a readable ONNX model ({error}): check --model") from None
    spec = ModelSpec.from_metadata({e.key: e.value for e in model.metadata_props}, str(path))
    if spec.windows is not None:
        return WindowEngine(TorchWindows(path.parent, threads), spec, hop_frames)
    weights = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }
    try:
        config = NetworkConfig(
            styles=len(spec.styles),
            choices=len(spec.choices),
            resting=spec.resting,
            channels=weights["audio.project.bias"].shape[0],
            hidden=tuple(
                weights[f"levels.{level}.recurrence.from_hidden.bias"].shape[0] // 3
                for level in range(6)
            ),
        )
        network = LiveNetwork(config)
        names = network.state_dict().keys()
        network.load_state_dict({name: weights[name] for name in names})
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"{path} does not hold the weights of a live network ({error}): export it again"
        ) from None
    return TorchEngine(network, spec, threads)
