"""An ONNX network with fewer places along one axis of its image: which layers can do so, and what the others get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hams_services.models.cut import used
from hams_services.optimizer.onnx_graph.run_onnx import tapped
from hams_services.optimizer.passes.crop_input.fit import Fit, fit, set_constant
from hams_shared.errors import UnsupportedModelError

SMALL = 8
"""Maps of so few places or fewer cost little, and look at all of the image: they are computed whole."""
_EACH = """
    Abs BatchNormalization Clip Elu Erf Exp HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg PRelu Relu Round
    Selu Sigmoid Softplus Sqrt Tanh
"""
EACH = frozenset(_EACH.split())
"""Change each place for itself."""
BOTH = frozenset(["Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"])
"""Join what is at the same place."""

BY_SIZE = (b"align_corners", b"tf_crop_and_resize")
"""Ways to resize in which a place's neighbours depend on the whole size."""
MEANS = frozenset(["GlobalAveragePool", "ReduceMean"])
"""Say one number for all places."""

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Map:
    """A tensor of which only the first `count` of `whole` places along `axis` are there."""

    axis: int
    count: int
    whole: int


class Narrowed:
    """The network with fewer places along one axis of its image."""

    def __init__(self, model: Any, axis: int, count: int, images: Array) -> None:
        self._model = model
        self._graph = model.graph
        self._images = images
        self._weights = {tensor.name: tensor for tensor in self._graph.initializer}
        self._shapes = self._shapes_of(images)
        name = self._graph.input[0].name
        self._maps = {name: Map(axis, count, images.shape[axis])}
        self._restored: dict[str, str] = {}
        self._fits: list[Fit] = []
        self._nodes: list[Any] = []
        self._axis = axis

    def write(self) -> None:
        """Change the model."""
        before = onnx.ModelProto()
        before.CopyFrom(self._model)
        for node in list(self._graph.node):
            self._add(node)
        for name in [value.name for value in self._graph.output if value.name in self._maps]:
            self._rename(name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        here = self._maps[self._graph.input[0].name]
        few = self._images.take(range(here.count), here.axis)
        fit(self._model, before, self._fits, few, self._images)

    def _shapes_of(self, images: Array) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors on a whole image."""
        names = [name for node in self._graph.node for name in node.output if name]
        said = tapped(self._model, names).run(names, {self._graph.input[0].name: np.ascontiguousarray(images[:1])})
        shapes = {name: value.shape for name, value in zip(names, said, strict=True)}
        shapes |= {name: tuple(tensor.dims) for name, tensor in self._weights.items()}
        return {**shapes, self._graph.input[0].name: images.shape}

    # ── one node ──────────────────────────────────────────────────────────────────────────────────────────────

    def _add(self, node: Any) -> None:
        """Take over a node: as it is, changed for fewer places, or after what is missing was put back."""
        known = [name for name in node.input if name in self._maps]
        if any(name in self._maps for name in used(node) if name not in node.input):
            raise UnsupportedModelError("a part of it that runs on a condition reads its maps")
        if not known:
            self._nodes.append(node)
            return
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        maps = [self._maps[name] for name in known]
        if node.op_type in MEANS and maps[0].axis in self._reduced(node, attributes):
            self._nodes.append(node)
            self._correct_mean(node, maps[0])
            return
        done = self._step(node, attributes, maps)
        if done is None:
            node.input[:] = [self._put_back(name) if name in self._maps else name for name in node.input]
        else:
            self._maps |= dict.fromkeys(node.output, done)
        self._nodes.append(node)

    def _step(self, node: Any, attributes: dict[str, Any], maps: list[Map]) -> Map | None:
        """What comes of a node on fewer places; None: it needs all of them."""
        first = maps[0]
        shape = self._shapes[node.input[0]]
        if len(node.output) > 1 and node.op_type != "Split":
            return None
        match node.op_type:
            case "Cast":
                return first if attributes["to"] == onnx.TensorProto.FLOAT else None
            case op if op in EACH:
                others = [self._shapes[name] for name in node.input[1:] if name and op == "PRelu"]
                return first if all(_one_along(other, first.axis, len(shape)) for other in others) else None
            case op if op in BOTH:
                return self._joined(node, maps)
            case "Concat":
                axis = attributes["axis"] % len(shape)
                same = len(maps) == len(node.input) and len(set(maps)) == 1
                return first if same and axis != first.axis else None
            case "Split" | "Softmax" | "LogSoftmax":
                usual = 0 if node.op_type == "Split" else -1
                return first if attributes.get("axis", usual) % len(shape) != first.axis else None
            case "Slice":
                return first if self._spares(node, first.axis, len(shape)) else None
            case "Transpose":
                order = list(attributes.get("perm", range(len(shape))[::-1]))
                return Map(order.index(first.axis), first.count, first.whole)
            case "Pad":
                return self._padded(node, attributes, first)
            case "Conv" | "MaxPool" | "AveragePool":
                return self._windowed(node, attributes, first) if len(maps) == 1 else None
            case "Resize":
                return self._resized(node, attributes, first)
            case _:
                return None

    def _joined(self, node: Any, maps: list[Map]) -> Map | None:
        rank = len(self._shapes[node.output[0]])
        if len(set(maps)) > 1:
            return None
        for name in node.input:
            shape = self._shapes[name]
            fits = len(shape) == rank if name in self._maps else _one_along(shape, maps[0].axis, rank)
            if not fits:
                return None
        return maps[0]

    def _spares(self, node: Any, axis: int, rank: int) -> bool:
        """Whether a Slice is along other axes."""
        if len(node.input) < 4 or node.input[3] not in self._weights:
            return False
        axes = numpy_helper.to_array(self._weights[node.input[3]]) % rank
        return axis not in axes

    def _padded(self, node: Any, attributes: dict[str, Any], of: Map) -> Map | None:
        """A border of one value."""
        given = list(node.input[1:])
        if attributes.get("mode", b"constant") != b"constant" or len(given) > 2 or given[0] not in self._weights:
            return None
        pads = numpy_helper.to_array(self._weights[given[0]]).reshape(2, -1)[:, of.axis]
        more = int(pads.sum())
        return Map(of.axis, of.count + more, of.whole + more) if pads.min() >= 0 else None

    def _windowed(self, node: Any, attributes: dict[str, Any], of: Map) -> Map | None:
        """A layer whose windows move over the image: the same pad before the first place, the same steps."""
        spatial = len(self._shapes[node.input[0]]) - 2
        at = of.axis - 2
        if at < 0 or self._shapes[node.output[0]][of.axis] == of.whole == 1:
            return None
        window = attributes.get("kernel_shape") or self._shapes[node.input[1]][2:]
        step = attributes.get("strides", [1] * spatial)[at]
        reach = attributes.get("dilations", [1] * spatial)[at] * (window[at] - 1) + 1
        whole = self._shapes[node.output[0]][of.axis]
        pads = list(attributes.get("pads", [0] * (2 * spatial)))
        kind = attributes.get("auto_pad", b"NOTSET").decode()
        if kind in ("SAME_UPPER", "SAME_LOWER"):
            pads = _same(kind, self._shapes[node.input[0]][2:], attributes, window)
            _set(node, "pads", pads)
            _set(node, "auto_pad", "NOTSET")
        free = of.count + pads[at] + pads[at + spatial] - reach
        up = attributes.get("ceil_mode", 0)
        count = (-(-free // step) if up else free // step) + 1
        if free < 0 or count >= whole or whole <= SMALL:
            return None
        return Map(of.axis, count, whole)

    def _resized(self, node: Any, attributes: dict[str, Any], of: Map) -> Map | None:
        """An image made larger by whole numbers: by scales from now on, as its size is another."""
        if attributes.get("coordinate_transformation_mode", b"half_pixel") in BY_SIZE:
            return None
        before, after = self._shapes[node.input[0]], self._shapes[node.output[0]]
        scales = np.array([a / b for a, b in zip(after, before, strict=True)], np.float32)
        if (scales != np.round(scales)).any():
            return None
        name = f"hams_scales/{self._axis}/{node.output[0]}"
        set_constant(self._model, name, scales)
        node.input[:] = [node.input[0], "", name]
        factor = int(scales[of.axis])
        return Map(of.axis, of.count * factor, of.whole * factor)

    def _reduced(self, node: Any, attributes: dict[str, Any]) -> tuple[int, ...]:
        """The axes of a mean."""
        rank = len(self._shapes[node.input[0]])
        if node.op_type == "GlobalAveragePool":
            return tuple(range(2, rank))
        axes = attributes.get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in self._weights:
            axes = numpy_helper.to_array(self._weights[node.input[1]]).tolist()
        return tuple(sorted(axis % rank for axis in axes)) if axes else tuple(range(rank))

    # ── what is missing ───────────────────────────────────────────────────────────────────────────────────────

    def _put_back(self, name: str) -> str:
        """The tensor with all places again."""
        if name not in self._restored:
            here, back = self._maps[name], f"hams_whole/{self._axis}/{name}"
            self._fill(name, back, here)
            self._restored[name] = back
        return self._restored[name]

    def _fill(self, name: str, back: str, here: Map, tensor: str = "") -> None:
        rank = len(self._shapes[tensor or name])
        pads = np.zeros(2 * rank, np.int64)
        pads[rank + here.axis] = here.whole - here.count
        set_constant(self._model, f"{back}/pads", pads)
        self._nodes.append(helper.make_node("Pad", [name, f"{back}/pads"], [f"{back}/padded"], f"{back}/padded"))
        self._nodes.append(helper.make_node("Add", [f"{back}/padded", f"{back}/rest"], [back], back))
        shape = (1, *self._shapes[tensor or name][1:])
        set_constant(self._model, f"{back}/rest", np.zeros(shape, np.float32))
        self._fits.append(Fit(tensor or name, f"{back}/padded", f"{back}/rest"))

    def _rename(self, name: str) -> None:
        """An output that is a map: what makes it makes another tensor, and with all places it is the output."""
        here, inner = self._maps[name], f"hams_part/{self._axis}/{name}"
        for node in self._nodes:
            node.output[:] = [inner if one == name else one for one in node.output]
            node.input[:] = [inner if one == name else one for one in node.input]
        self._fill(inner, name, here, tensor=name)

    def _correct_mean(self, node: Any, of: Map) -> None:
        """A mean over fewer places, and what the missing ones would have added."""
        name = node.output[0]
        part, scaled = f"hams_part/{self._axis}/{name}", f"hams_scaled/{self._axis}/{name}"
        node.output[0] = part
        share = of.count / of.whole
        set_constant(self._model, f"{part}/share", np.array(share, np.float32))
        set_constant(self._model, f"{part}/rest", np.zeros((1,) * len(self._shapes[name]), np.float32))
        self._nodes.append(helper.make_node("Mul", [part, f"{part}/share"], [scaled], scaled))
        self._nodes.append(helper.make_node("Add", [scaled, f"{part}/rest"], [name], f"hams_mean/{self._axis}/{name}"))
        self._fits.append(Fit(name, part, f"{part}/rest", f"{part}/share", share))


def _one_along(shape: tuple[int, ...], axis: int, rank: int) -> bool:
    """Whether a tensor that is joined with one of `rank` is the same at all places of its `axis`."""
    at = axis - (rank - len(shape))
    return at < 0 or shape[at] == 1


def _same(kind: str, sizes: tuple[int, ...], attributes: dict[str, Any], window: Any) -> list[int]:
    """The pads of a layer whose padding is said in words."""
    begins, ends = [], []
    for at, size in enumerate(sizes):
        step = attributes.get("strides", [1] * len(sizes))[at]
        reach = attributes.get("dilations", [1] * len(sizes))[at] * (window[at] - 1) + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if kind == "SAME_UPPER" else more)
        ends.append(more if kind == "SAME_UPPER" else less)
    return begins + ends


def _set(node: Any, name: str, value: Any) -> None:
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
