"""An ONNX graph in half precision where that is safe.

The rule is that of automatic mixed precision. Products and convolutions compute in half precision;
what only moves numbers about or is smooth and bounded goes along when all it reads is half already;
everything else stays single. Inputs and outputs stay single, so the state of a stream does too.

One thing more: whatever decides (a comparison, an argmax) is computed in single precision from the
inputs on. The live network chooses its gestures so, and half precision must not change a choice.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ha2g_live.engines.unroll import Constants, prune
from ha2g_live.realtime.errors import ModelError

_HEAVY = frozenset({"Conv", "Einsum", "Gemm", "MatMul"})
_LIGHT = frozenset(
    {
        *("Add", "BatchNormalization", "Concat", "DepthToSpace", "Elu", "Expand", "Flatten"),
        *("Gather", "GlobalAveragePool", "Identity", "LeakyRelu", "Mul", "Pad", "Relu", "Reshape"),
        *("Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"),
    }
)
_DECIDING = frozenset(
    {
        *("ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less"),
        *("LessOrEqual", "NonZero", "Round", "TopK"),
    }
)
_LARGEST = float(np.finfo(np.float16).max)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a float32 model that computes in half precision; its bindings stay float32.

    Raises:
        ModelError: a weight does not fit half precision, or the model's types do not fit.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = _Graph(copy)
    nodes = [made for node in copy.graph.node for made in graph.converted(node)]
    for value in copy.graph.output:
        nodes.extend(graph.full(value.name))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(graph.initializers)
    del copy.graph.value_info[:]
    prune(copy.graph)
    return copy


class _Graph:
    """Which tensors exist in which precision; a tensor's half form has a name of its own."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.initializers: list[onnx.TensorProto] = []
        self._constants = Constants(model.graph)
        self._floats = float_names(model)
        self._exact = deciding(model.graph, self._floats)
        self._as_full = self._floats - {n for node in model.graph.node for n in node.output}
        self._as_half: set[str] = set()

    def converted(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The node in the precision it gets, after the casts it needs."""
        read = [name for name in node.input if name in self._floats]
        nodes: list[onnx.NodeProto] = []
        if self._goes_half(node, read):
            for name in read:
                nodes.extend(self.half(name))
            half = onnx.NodeProto()
            half.CopyFrom(node)
            for names in (half.input, half.output):
                names[:] = [_half(name) if name in self._floats else name for name in names]
            self._as_half.update(name for name in node.output if name in self._floats)
            return [*nodes, half]
        for name in read:
            nodes.extend(self.full(name))
        self._as_full.update(node.output)
        return [*nodes, node]

    def _goes_half(self, node: onnx.NodeProto, read: list[str]) -> bool:
        if self._exact.intersection(node.output):
            return False
        if node.op_type in _HEAVY:
            return True
        moving = [name for name in read if self._constants.get(name) is None]
        ready = bool(moving) and all(name in self._as_half for name in moving)
        return node.op_type in _LIGHT and ready

    def half(self, name: str) -> list[onnx.NodeProto]:
        """What makes the half form of a tensor, unless it exists."""
        if name in self._as_half:
            return []
        self._as_half.add(name)
        values = self._constants.get(name)
        if values is None:
            return [_cast(name, _half(name), TensorProto.FLOAT16)]
        if values.size and float(np.abs(values).max()) > _LARGEST:
            raise ModelError(
                f"the weight {name!r} is too large for half precision: use --precision fp32"
            )
        self.initializers.append(numpy_helper.from_array(values.astype(np.float16), _half(name)))
        return []

    def full(self, name: str) -> list[onnx.NodeProto]:
        """What makes the single form of a tensor, unless it exists."""
        if name in self._as_full or name not in self._as_half:
            return []
        self._as_full.add(name)
        return [_cast(_half(name), name, TensorProto.FLOAT)]


def _half(name: str) -> str:
    return f"{name}/half"


def _cast(name: str, to_name: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [to_name], f"{to_name}/cast", to=to)


def float_names(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception as error:  # onnx raises classes of its own
        raise ModelError(f"the types of the model do not fit ({error}): export it again") from None
    values = (*graph.input, *graph.output, *graph.value_info)
    named = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}


def deciding(graph: onnx.GraphProto, floats: set[str]) -> set[str]:
    """Names of the float tensors that a decision depends on; through whole numbers none does.

    What goes into the state that a decision of a later step is made from counts too.
    """
    exact: set[str] = set()
    known = -1
    while len(exact) > known:
        known = len(exact)
        exact.update(f"next_{value.name}" for value in graph.input if value.name in exact)
        for node in reversed(graph.node):
            if node.op_type in _DECIDING or exact.intersection(node.output):
                exact.update(name for name in node.input if name in floats)
    return exact
