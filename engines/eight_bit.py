"""An ONNX model whose matrix products compute with 8-bit whole numbers where that is bearable.

ONNX Runtime's dynamic quantisation: weights by channel, inputs scaled anew in every step. Two kinds
of products stay single. Whatever decides, in this step or through the state in a later one: another
choice is another gesture. And the products that make the pose itself, behind the recurrences, where
an error of a hundredth is seen as a degree.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from ha2g_live.engines.half import deciding, float_names
from ha2g_live.realtime.errors import ModelError

_PRODUCTS = ("Gemm", "MatMul")
_MOVING = ("Concat", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze")
"""Operations that only put numbers elsewhere."""


def eight_bit(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a live model with 8-bit products; its bindings stay float32.

    Raises:
        ModelError: it has no product that could be computed so.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = model.graph
    products = [node for node in graph.node if node.op_type in _PRODUCTS]
    single = deciding(graph, float_names(model)) | _behind_recurrences(graph)
    kept = [node.name for node in products if single.intersection(node.output)]
    if len(kept) == len(products):
        raise ModelError("no product of this model can be computed in 8 bits: leave it as it is")
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, str(before))
        logging.disable(logging.WARNING)  # it recommends a step that is of no use here
        try:
            quantize_dynamic(
                str(before),
                str(after),
                op_types_to_quantize=list(_PRODUCTS),
                # It turns each Gemm into a MatMul first, under this name.
                nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(str(after))


def _behind_recurrences(graph: onnx.GraphProto) -> set[str]:
    """Names of the tensors between what is remembered for the next step and the directions."""
    made_by = {name: node for node in graph.node for name in node.output}
    states = [value.name for value in graph.output if value.name.startswith("next_")]
    remembered = _upstream(states, made_by, lambda node: node.op_type in _MOVING)
    return _upstream(["directions"], made_by, lambda node: not remembered.intersection(node.output))


def _upstream(
    names: list[str],
    made_by: dict[str, onnx.NodeProto],
    goes_on: Callable[[onnx.NodeProto], bool],
) -> set[str]:
    """These tensors and what they are made from, as far back as ``goes_on`` says of a node."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        node = made_by.get(name)
        if node is not None and goes_on(node):
            waiting.extend(node.input)
    return found
