"""The reference engine: the network's own definition in PyTorch.

It reads the same model file as the others. The exporter of the live network keeps every weight
under its parameter's name, so the file's weights are loaded straight into ``LiveNetwork``. An
imported model is read from the checkpoint that lies beside its model file.

On the CPU it runs eagerly and is what the other engines are held against. On an NVIDIA GPU the step
of a bound batch is captured once as a CUDA graph and replayed: a step is some hundred small
kernels, and starting them one by one from Python takes longer than running them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ha2g_live.engines.base import (
    Bound,
    Capabilities,
    Engine,
    ModelSpec,
    State,
    Wrapped,
    check_batch,
)
from ha2g_live.engines.window import WindowEngine
from ha2g_live.realtime.errors import ConfigError, MissingExtra, ModelError
from ha2g_live.realtime.types import F32

try:
    import onnx
    import torch
except ImportError as error:
    raise MissingExtra("the torch engine", str(error.name), "train") from error

from ha2g_live.engines.network import LiveNetwork, NetworkConfig

_WARM_UPS = 3


class TorchEngine:
    """Steps a live model in PyTorch."""

    def __init__(
        self, network: LiveNetwork, spec: ModelSpec, threads: int, device: torch.device
    ) -> None:
        self._network = network.eval().to(device)
        self._spec = spec
        self._threads = threads
        self._device = device

    @property
    def spec(self) -> ModelSpec:
        """What the opened model is."""
        return self._spec

    @property
    def capabilities(self) -> Capabilities:
        """Where and how it computes."""
        return _capabilities(self._device)

    def step(self, audio: F32, style: F32, noise: F32, state: State) -> tuple[F32, State]:
        """One step; see ``engines.base.Engine``."""
        torch.set_num_threads(self._threads)
        given = {"audio": audio, "style": style, "noise": noise, **state}
        moved = {name: self._tensor(value) for name, value in given.items()}
        with torch.inference_mode():
            directions, after = self._network(
                moved["audio"],
                moved["style"],
                moved["noise"],
                {name: moved[name] for name in self._spec.state},
            )
        return directions.cpu().numpy(), {
            name: after[name].cpu().numpy() for name in self._spec.state
        }

    def bind(self, batch: int) -> Bound:
        """Buffers for ``batch`` streams."""
        if self._device.type == "cuda":
            check_batch(batch, self.capabilities)
            return _GraphBound(self._network, self._spec, batch, self._device)
        return Wrapped(self, batch)

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""

    def _tensor(self, array: F32) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class _GraphBound:
    """A bound step as a CUDA graph; see ``engines.base.Bound``.

    The graph reads the state and writes the new one beside it; a step that is kept copies the new
    one over the old, on the device.
    """

    def __init__(
        self, network: LiveNetwork, spec: ModelSpec, batch: int, device: torch.device
    ) -> None:
        def pinned(shape: tuple[int, ...]) -> torch.Tensor:
            return torch.zeros(shape, pin_memory=True)

        shapes = spec.inputs(batch)
        self._names = tuple(spec.state)
        self._host = {name: pinned(shapes[name]) for name in ("audio", "style", "noise")}
        self._host_directions = pinned(spec.outputs(batch)["directions"])
        self.audio = self._host["audio"].numpy()
        self.style = self._host["style"].numpy()
        self.style[:] = spec.style_vector(batch=batch)
        self.noise = self._host["noise"].numpy()
        self.directions = self._host_directions.numpy()
        given = {name: value.to(device) for name, value in self._host.items()}
        self._state = {
            name: torch.from_numpy(value).to(device)
            for name, value in spec.initial_state(batch).items()
        }

        def work() -> dict[str, torch.Tensor]:
            for name, value in self._host.items():
                given[name].copy_(value, non_blocking=True)
            directions, after = network(given["audio"], given["style"], given["noise"], self._state)
            self._host_directions.copy_(directions, non_blocking=True)
            return {name: after[name] for name in self._names}

        with torch.inference_mode():
            # Libraries allocate and choose their algorithms in the first calls, which a graph may
            # not contain.
            stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    work()
            torch.cuda.current_stream(device).wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._after = work()

    def run(self, keep: bool = True) -> None:
        """One step; see ``engines.base.Bound``."""
        with torch.inference_mode():
            self._graph.replay()
            if keep:
                for name in self._names:
                    self._state[name].copy_(self._after[name])
            torch.cuda.synchronize()

    def read_state(self) -> State:
        """A copy of the state."""
        return {name: value.cpu().numpy() for name, value in self._state.items()}

    def write_state(self, state: State) -> None:
        """Replace the state; the arrays are copied."""
        with torch.inference_mode():
            for name, value in self._state.items():
                value.copy_(torch.from_numpy(state[name]))


class TorchWindows:
    """Runs the windows of a published model in PyTorch; see ``window.WindowModel``."""

    def __init__(self, checkpoint: Path, threads: int, device: torch.device) -> None:
        # Only here: this engine is the one that knows the networks themselves.
        from ha2g_live.training.ha2g.checkpoint import load_checkpoint
        from ha2g_live.training.ha2g.export import StreamedHa2g

        network = StreamedHa2g(load_checkpoint(checkpoint).network.eval())
        self._network = network.eval().to(device)
        self._threads = threads
        self._device = device

    def predict(self, audio: F32, style: F32, noise: F32, given: F32, known: F32) -> F32:
        """One window."""
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            inputs = (
                torch.tensor(value, device=self._device)
                for value in (audio, style, noise, given, known)
            )
            poses: F32 = self._network(*inputs).cpu().numpy()
        return poses

    def close(self) -> None:
        """Nothing is held that garbage collection does not release."""


def _capabilities(device: torch.device) -> Capabilities:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return Capabilities(device=name)


def open_engine(
    path: Path, threads: int, hop_frames: int | None = None, *, device: str = "cpu"
) -> Engine:
    """Open ``path``.

    Args:
        path: an exported model of either kind.
        threads: CPU threads of one step.
        hop_frames: pose frames from one window to the next, for a window model.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: the hop is out of its range, or there is no such device.
        ModelError: the file cannot be loaded, or its weights do not fit the network.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("PyTorch finds no NVIDIA GPU here: use --engine onnx or torch")
    where = torch.device(device)
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises classes of its own
        raise ModelError(f"{path} is not a readable ONNX model ({error}): check --model") from None
    spec = ModelSpec.from_metadata({e.key: e.value for e in model.metadata_props}, str(path))
    if spec.windows is not None:
        windows = TorchWindows(path.parent, threads, where)
        return WindowEngine(windows, spec, hop_frames, _capabilities(where))
    if spec.precision != "fp32":
        raise ModelError(
            f"{path} is a model of precision {spec.precision}, which only the onnx engine runs: "
            "use --engine onnx"
        )
    weights = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }
    return TorchEngine(_network(weights, spec, path), spec, threads, where)


def _network(weights: Mapping[str, Any], spec: ModelSpec, path: Path) -> LiveNetwork:
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
    return network
