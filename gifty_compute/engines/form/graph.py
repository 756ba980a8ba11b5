"""The encoder of the packaged model as an ONNX graph, its weights written out as 32-bit floats."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper

from gifty_compute.arrays import np, npt
from gifty_compute.engines.form.packed import Packed

__all__ = ["encoder"]

# With RMSNormalization.
_OPSET = 23
# onnxruntime's own operators: one pass over the data where the standard ones take several.
_FUSED = "com.microsoft"


def encoder(packed: Packed) -> Any:
    """A ModelProto: input_ids and attention_mask, both int64 [rows, length], to last_hidden_state.

    The table of words stays in 4 bits, as bytes, and is computed row by row as it is looked up: the same
    numbers as floats, in 100 MB and not 384.
    """
    graph = _Graph(packed)
    state = graph.embedded()
    for layer in range(packed.layers):
        state = graph.layer(layer, state)
    graph.node("Identity", [state], "last_hidden_state")
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    shape = ["rows", "length", packed.hidden]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)]
    made = helper.make_graph(graph.nodes, "encoder", inputs, outputs, initializer=graph.constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_FUSED, 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants, each result named after what it is."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def floats(self, name: str) -> str:
        return self.constant(name, self._packed.floats(name))

    def embedded(self) -> str:
        """Words, places and the one type, summed and normalised."""
        packed, hidden = self._packed, self._packed.hidden
        words = packed.quantized("emb.word", hidden)
        levels = self.node("Gather", [self.constant("word.levels", words.levels), "input_ids"], "levels")
        scales = self.node("Gather", [self.constant("word.scales", words.scales), "input_ids"], "scales")
        blocks = self.constant("blocks", np.array([0, 0, -1, 32], np.int64))
        levels = self.node("Cast", [self.node("Reshape", [levels, blocks], "levels4")], "wide", to=1)
        column = self.constant("column", np.array([0, 0, -1, 1], np.int64))
        scales = self.node("Cast", [self.node("Reshape", [scales, column], "scales4")], "scale", to=1)
        rows = self.constant("row", np.array([0, 0, hidden], np.int64))
        word = self.node("Reshape", [self.node("Mul", [levels, scales], "weighted"), rows], "word")
        places = packed.floats("emb.pos").reshape(-1, hidden) + packed.floats("emb.type")[:hidden]
        state = self.node("Add", [word, self._places(places)], "summed")
        return self._normalised("emb.ln", state, None, "state")

    def _places(self, places: npt.NDArray[np.float32]) -> str:
        shape = self.node("Shape", ["input_ids"], "shape", start=1, end=2)
        zero = self.constant("zero", np.array([0], np.int64))
        return self.node("Slice", [self.constant("places", places), zero, shape], "place")

    def layer(self, number: int, state: str) -> str:
        """Attention and the inner layer, each added to what it read and normalised."""
        packed, hidden, at = self._packed, self._packed.hidden, f"l{number}"
        seen = self._attended(at, state)
        state = self._normalised(f"{at}.aln", self._matmul(f"{at}.ao", seen, hidden), state, f"{at}.seen")
        inner = self._matmul(f"{at}.fi", state, hidden)
        inner = self.node("BiasGelu", [inner, self.floats(f"{at}.fi.b")], f"{at}.inner", domain=_FUSED)
        out = self._matmul(f"{at}.fo", inner, packed.inner)
        return self._normalised(f"{at}.oln", out, state, f"{at}.state")

    def _attended(self, at: str, state: str) -> str:
        packed, hidden = self._packed, self._packed.hidden
        weights = [packed.quantized(f"{at}.{part}.w", hidden).floats().T for part in "qkv"]
        weight = self.constant(f"{at}.qkv.w", np.concatenate(weights, axis=1))
        bias = np.concatenate([packed.floats(f"{at}.{part}.b") for part in "qkv"])
        bias_name = self.constant(f"{at}.qkv.b", bias)
        inputs = [state, weight, bias_name, self._mask()]
        return self.node("Attention", inputs, f"{at}.attended", domain=_FUSED, num_heads=packed.heads)

    def _mask(self) -> str:
        if not any(node.name == "mask" for node in self.nodes):
            self.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
        return "mask"

    def _matmul(self, name: str, state: str, columns: int) -> str:
        weight = self._packed.quantized(f"{name}.w", columns).floats().T
        return self.node("MatMul", [state, self.constant(f"{name}.w", weight)], name)

    def _normalised(self, name: str, state: str, skip: str | None, output: str) -> str:
        """The layer norm of `state`, or of what it adds to `skip`.

        Written as the root-mean-square norm of what is centred, which is the same. With onnxruntime's fused
        operators (1.32) the model made 68 % of the bare products, not 76: `benchmarks.engines speed`.
        """
        if skip is not None:
            bias = name.replace(".aln", ".ao.b").replace(".oln", ".fo.b")
            added = self.node("Add", [state, self.floats(bias)], f"{name}.added")
            state = self.node("Add", [added, skip], f"{name}.summed")
        mean = self.node("ReduceMean", [state, self._last_axis()], f"{name}.mean")
        centred = self.node("Sub", [state, mean], f"{name}.centred")
        scaled = self.node(
            "RMSNormalization",
            [centred, self.floats(f"{name}.w")],
            f"{name}.scaled",
            epsilon=self._packed.epsilon,
            axis=-1,
        )
        return self.node("Add", [scaled, self.floats(f"{name}.b")], output)

    def _last_axis(self) -> str:
        if not any(constant.name == "last" for constant in self.constants):
            self.constant("last", np.array([-1], np.int64))
        return "last"
