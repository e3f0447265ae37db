"""GRU nodes of an ONNX graph as loop-free nodes, for runtimes whose loops are slow.

TensorRT turns a GRU node into a loop with its own bookkeeping in every frame and optimises nothing
across its border. A window has a fixed number of frames, so the loop can be written out: one
product projects the inputs of all frames, and each frame is then a small product for each gate and
a few elementwise operations. Both directions of a layer advance in the same batched products, the
backward one over frames in reversed order, so a layer is as many steps long as it has frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ha2g_live.engines.base import SPEC_KEY, ModelSpec
from ha2g_live.engines.ted import WINDOW_FRAMES
from ha2g_live.realtime.errors import ModelError

_DIRECTIONS = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}
"""Which directions a node has, in the order of its weights: whether each runs backward."""

_USUAL = {"clip": None, "activation_alpha": None, "activation_beta": None, "layout": 0}
"""Attributes of a GRU node that may only be as PyTorch's exporter leaves them."""


def unrolled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model without GRU nodes that computes the same.

    The batch axis stays as it was. A model without GRU nodes is copied unchanged.

    Args:
        model: GRU nodes in it start at zero, have constant weights and inputs of a known number of
            frames, and apply the reset gate after the product (``linear_before_reset``).

    Raises:
        ModelError: a GRU node is of another kind.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    if not any(node.op_type == "GRU" for node in graph.node):
        return copy
    frames, window = _frame_counts(copy), _window_frames(copy)
    constants = Constants(graph)
    used = _used(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "GRU":
            nodes.append(node)
            continue
        layer = _Layer(node, frames.get(node.input[0], 0) or window, constants)
        nodes.extend(layer.written_out(used))
        graph.initializer.extend(layer.initializers)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # of tensors that may be gone
    prune(graph)
    return copy


def prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and initialisers that no output depends on."""
    wanted = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    tensors = [tensor for tensor in graph.initializer if tensor.name in wanted]
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    del graph.initializer[:]
    graph.initializer.extend(tensors)


class Constants:
    """Tensors of a graph that are known without running it, by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._same: dict[str, str] = {}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity":  # the exporter stores equal tensors once
                self._same[node.output[0]] = node.input[0]

    def get(self, name: str) -> NDArray[Any] | None:
        """The tensor, or None where it is not constant."""
        while name in self._same:
            name = self._same[name]
        tensor = self._tensors.get(name)
        return None if tensor is None else np.asarray(numpy_helper.to_array(tensor))


def _frame_counts(model: onnx.ModelProto) -> dict[str, int]:
    """First axes of the tensors for which shape inference finds it."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # onnx raises classes of its own
        raise ModelError(f"the shapes of the model do not fit ({error}): export it again") from None
    values = (*graph.input, *graph.value_info)
    firsts = {value.name: value.type.tensor_type.shape.dim[:1] for value in values}
    return {name: dims[0].dim_value for name, dims in firsts.items() if dims}


def _window_frames(model: onnx.ModelProto) -> int:
    """Frames of a window model, as its spec says; 0 for another model.

    The exported graph computes shapes from the batch, which shape inference cannot follow. Should
    the number be wrong, the nodes that take the frames apart do not fit, and no runtime loads it.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if SPEC_KEY not in metadata:
        return 0
    spec = ModelSpec.from_metadata(metadata, "the model")
    return 0 if spec.windows is None else WINDOW_FRAMES


def _used(graph: onnx.GraphProto) -> set[str]:
    names = {name for node in graph.node for name in node.input}
    return names | {value.name for value in graph.output}


class _Layer:
    """One GRU node, written out.

    Shapes: T frames, D directions, B streams, H hidden; a state is (D, B, H).
    """

    def __init__(self, node: onnx.NodeProto, frames: int, constants: Constants) -> None:
        told = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._node = node
        self._frames = frames
        self._hidden = int(told["hidden_size"])
        backward = _DIRECTIONS.get(told.get("direction", b"forward").decode())
        names = (*node.input, "", "", "")[1:]
        weights, recurrent, bias = (constants.get(name) for name in names[:3])
        refused = (
            ("an unknown number of frames", frames < 1),
            ("a start or lengths of its own", any(names[3:])),
            ("its reset gate before the product", told.get("linear_before_reset", 0) != 1),
            ("an unknown direction", backward is None),
            ("weights that are not constant", weights is None or recurrent is None),
            ("activations of its own", "activations" in told and not _usual(told["activations"])),
            *((f"{name} set", told.get(name, usual) != usual) for name, usual in _USUAL.items()),
        )
        for what, is_so in refused:
            if is_so:
                raise ModelError(
                    f"the GRU node {node.name!r} has {what}, which cannot be written out: "
                    "use a model that `ha2g-live import` made, or --engine onnx"
                )
        assert weights is not None
        assert recurrent is not None
        assert backward is not None
        self._backward = backward
        self.initializers: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._prefix = f"{node.output[0] or node.output[1]}/frames"
        self._prepare(weights, recurrent, bias)

    def _prepare(
        self, weights: NDArray[Any], recurrent: NDArray[Any], bias: NDArray[Any] | None
    ) -> None:
        """Weights (D, 3 H, inputs) and (D, 3 H, H), biases (D, 6 H), gates in order z, r, n."""
        size, count = self._hidden, len(self._backward)
        if bias is None:
            bias = np.zeros((count, 6 * size), dtype=weights.dtype)
        of_input, of_hidden = bias[:, : 3 * size].copy(), bias[:, 3 * size :]
        # Both biases of the two gates are only ever added together.
        of_input[:, : 2 * size] += of_hidden[:, : 2 * size]
        self._weights = self._constant("weights", weights.reshape(-1, weights.shape[2]).T)
        self._input_bias = self._constant("bias", of_input.reshape(-1))
        self._fresh_bias = self._constant("fresh_bias", of_hidden[:, None, 2 * size :])
        self._recurrent = [
            self._constant(f"recurrent{i}", part.transpose(0, 2, 1))
            for i, part in enumerate(np.split(recurrent, 3, axis=1))
        ]
        self._apart = self._constant("apart", np.array([0, 0, count, 3, size]))
        self._numbers = [self._constant(f"{i}", np.array(i)) for i in range(max(self._frames, 3))]
        self._reversed = self._constant("reversed", np.arange(self._frames)[::-1].copy())
        self._first_axis = self._constant("axis0", np.array([0]))
        self._second_axis = self._constant("axis1", np.array([1]))

    def written_out(self, used: set[str]) -> list[onnx.NodeProto]:
        """The nodes, in order; outputs that are not in ``used`` are left out."""
        product = self._add("MatMul", self._node.input[0], self._weights)
        projected = self._add("Add", product, self._input_bias)
        apart = self._add("Reshape", projected, self._apart)
        aligned = self._turned(self._add("Transpose", apart, perm=[0, 2, 3, 1, 4]))
        gates = [self._add("Gather", aligned, number, axis=2) for number in self._numbers[:3]]
        states: list[str] = []
        for number in self._numbers[: self._frames]:
            heard = [self._add("Gather", gate, number, axis=0) for gate in gates]
            states.append(self._frame(heard, states[-1] if states else None))
        all_frames, last = (*self._node.output, "")[:2]
        if all_frames in used:
            rows = [self._add("Unsqueeze", state, self._first_axis) for state in states]
            self._turned(self._add("Concat", *rows, axis=0))
            self._nodes[-1].output[0] = all_frames
        if last in used:
            self._nodes.append(helper.make_node("Identity", [states[-1]], [last], last))
        return self._nodes

    def _frame(self, heard: list[str], before: str | None) -> str:
        """One frame of all directions; the first one starts from zeros."""
        if before is None:
            update, reset = (self._add("Sigmoid", gate) for gate in heard[:2])
            remembered = self._fresh_bias
        else:
            # A product for each gate: taking one wide product apart again costs TensorRT several
            # layers a piece, and a third more time to compile.
            products = [self._add("MatMul", before, weights) for weights in self._recurrent]
            update, reset = (
                self._add("Sigmoid", self._add("Add", gate, product))
                for gate, product in zip(heard[:2], products[:2], strict=True)
            )
            remembered = self._add("Add", products[2], self._fresh_bias)
        fresh = self._add("Tanh", self._add("Add", heard[2], self._add("Mul", reset, remembered)))
        if before is None:
            return self._add("Sub", fresh, self._add("Mul", update, fresh))
        difference = self._add("Sub", before, fresh)
        return self._add("Add", fresh, self._add("Mul", update, difference))

    def _turned(self, values: str) -> str:
        """(T, D, ...) with the frames of backward directions in reversed order."""
        if not any(self._backward):
            return values
        parts = []
        for i, backward in enumerate(self._backward):
            part = self._add("Gather", values, self._numbers[i], axis=1)
            if backward:
                part = self._add("Gather", part, self._reversed, axis=0)
            parts.append(self._add("Unsqueeze", part, self._second_axis))
        return self._add("Concat", *parts, axis=1)

    def _add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self._prefix}/{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        full = f"{self._prefix}/{name}"
        self.initializers.append(numpy_helper.from_array(values, full))
        return full


def _usual(activations: list[bytes]) -> bool:
    return activations in ([b"Sigmoid", b"Tanh"], [b"Sigmoid", b"Tanh"] * 2)
