"""An ONNX network is cropped to the filled part of its letterboxed image; in a job's process.

A letterboxed image of 320×320 that shows a frame of 1280×544 is empty from row 136 on, and a detector spends half of
its time there. Layers that keep places apart compute fewer rows (or columns). Before a layer that mixes places (a
reshape, an attention), the missing rows are put back as their average over samples, so that all that follows, and all
outputs, keep their shapes. Means over the image get a factor and an offset. All these constants are fitted by least
squares, one after another: each also makes up for the error before it (:mod:`.fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from hams_services.optimizer.onnx_graph import graph
from hams_services.optimizer.passes.crop_input.fit import Fit, fit
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import HamsError, UnsupportedModelError

OPSET = 13
SAMPLES = 50
"""Most samples that the constants are fitted to."""
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
BY_SIZE = ("align_corners", "tf_crop_and_resize")
"""Ways to resize in which a place's neighbours depend on the whole size."""
MEANS = frozenset(["GlobalAveragePool", "ReduceMean"])
"""Output one number for all places."""

Array = NDArray[np.generic]


def crop_input(source: str, out: str, size: list[int], layout: str, tensors: str) -> dict[str, object]:
    """Write the ONNX file `source` for images of `size` (width, height), the top left part of those it takes.

    `tensors` is a file of N images as it takes them (.npy), whole ones. Outputs keep their shapes and meaning. Returns
    ``files``, ``tools``.

    Raises:
        UnsupportedModelError: its operator set cannot be raised, or it does not run so.
    """
    model = graph.load(source, OPSET)
    graph.forget_shapes(model)
    given = np.load(tensors, mmap_mode="r")
    images = given[:: -(-len(given) // SAMPLES)]
    height, width = (2, 3) if layout == "nchw" else (1, 2)
    try:
        for axis, count in ((height, size[1]), (width, size[0])):
            if count < images.shape[axis]:
                AxisCrop(model, axis, count, images).apply()
                images = images.take(range(count), axis)
        graph.remove_unused(model)
        graph.declare_shapes(model, np.ascontiguousarray(images[:1]))
    except HamsError:
        raise
    except Exception as error:  # ONNX Runtime has many kinds
        raise UnsupportedModelError(f"it cannot be put on a part of its image: {reason(error)}") from error
    return {"files": [graph.save(model, out)], "tools": {"onnx": onnx.__version__}}


@dataclass(frozen=True)
class Map:
    """A tensor of which only the first `count` of `whole` places along `axis` are there."""

    axis: int
    count: int
    whole: int


class AxisCrop:
    """The network with fewer places along one axis of its image."""

    def __init__(self, model: ir.Model, axis: int, count: int, images: Array) -> None:
        self._model, self._graph, self._images, self._axis = model, model.graph, images, axis
        self._before = model.clone()
        self._shapes = self._shapes_of(images)
        self._maps = {model.graph.inputs[0]: Map(axis, count, images.shape[axis])}
        self._restored: dict[ir.Value, ir.Value] = {}
        self._fits: list[Fit] = []

    def apply(self) -> None:
        """Change the model."""
        for node in list(self._graph):
            self._visit(node)
        for output in [value for value in self._graph.outputs if value in self._maps]:
            name = output.name
            whole = self._fill(output, f"hams_whole/{self._axis}/{name}", name)
            graph.replace_output(output, whole, f"hams_part/{self._axis}/{name}")
        here = self._maps[self._graph.inputs[0]]
        fit(self._model, self._before, self._fits, self._images.take(range(here.count), here.axis), self._images)

    def _shapes_of(self, images: Array) -> dict[ir.Value, tuple[int, ...]]:
        """Return the shapes of all tensors for one whole image."""
        given = self._graph.inputs[0]
        values = {value.name: value for node in self._graph for value in node.outputs if value.name}
        session = graph.session(self._before, values)
        found = session.run(list(values), {given.name: np.ascontiguousarray(images[:1])})
        shapes = {value: array.shape for value, array in zip(values.values(), found, strict=True)}
        shapes |= {value: value.const_value.numpy().shape for value in self._graph.initializers.values()}
        return {**shapes, given: images.shape}

    # ── one node ──────────────────────────────────────────────────────────────────────────────────────────────

    def _visit(self, node: ir.Node) -> None:
        """Leave a node as it is, change it for fewer places, or put back what it misses."""
        known = [value for value in node.inputs if value in self._maps]
        if not known:
            return
        maps = [self._maps[value] for value in known]
        if node.op_type in MEANS and maps[0].axis in self._reduced(node):
            self._correct_mean(node, maps[0])
            return
        done = self._step(node, maps)
        if done is not None:
            self._maps |= dict.fromkeys(node.outputs, done)
            if any(user.graph is not self._graph for value in node.outputs for user in value.consumers()):
                raise UnsupportedModelError("a part of it that runs on a condition reads its maps")
            return
        for index, value in enumerate(node.inputs):
            if value in self._maps:
                node.replace_input_with(index, self._put_back(value, node))

    def _step(self, node: ir.Node, maps: list[Map]) -> Map | None:
        """Return what comes of a node on fewer places; None: it needs all of them."""
        first, rank, get_int = maps[0], len(self._shapes[node.inputs[0]]), node.attributes.get_int
        if len(node.outputs) > 1 and node.op_type != "Split":
            return None
        match node.op_type:
            case "Cast":
                return first if get_int("to") == ir.DataType.FLOAT else None
            case op if op in EACH:
                others = [self._shapes[value] for value in node.inputs[1:] if value is not None and op == "PRelu"]
                return first if all(_one_along(other, first.axis, rank) for other in others) else None
            case op if op in BOTH:
                return self._joined(node, maps)
            case "Concat":
                same = len(maps) == len(node.inputs) and len(set(maps)) == 1
                return first if same and get_int("axis") % rank != first.axis else None
            case "Split" | "Softmax" | "LogSoftmax":
                usual = 0 if node.op_type == "Split" else -1
                return first if get_int("axis", usual) % rank != first.axis else None
            case "Slice":
                axes = graph.weight(node.inputs[3]) if len(node.inputs) > 3 else None
                return first if axes is not None and first.axis not in axes % rank else None
            case "Transpose":
                order = list(node.attributes.get_ints("perm", range(rank)[::-1]))
                return Map(order.index(first.axis), first.count, first.whole)
            case "Pad":
                return self._padded(node, first)
            case "Conv" | "MaxPool" | "AveragePool":
                return self._windowed(node, first) if len(maps) == 1 else None
            case "Resize":
                return self._resized(node, first)
            case _:
                return None

    def _joined(self, node: ir.Node, maps: list[Map]) -> Map | None:
        rank = len(self._shapes[node.outputs[0]])
        if len(set(maps)) > 1:
            return None
        for value in node.inputs:
            shape = self._shapes[value]
            fits = len(shape) == rank if value in self._maps else _one_along(shape, maps[0].axis, rank)
            if not fits:
                return None
        return maps[0]

    def _padded(self, node: ir.Node, of: Map) -> Map | None:
        """Follow a border of one value."""
        sides = graph.weight(node.inputs[1])
        if node.attributes.get_string("mode", "constant") != "constant" or len(node.inputs) > 3 or sides is None:
            return None
        pads = sides.reshape(2, -1)[:, of.axis]
        more = int(pads.sum())
        return Map(of.axis, of.count + more, of.whole + more) if pads.min() >= 0 else None

    def _windowed(self, node: ir.Node, of: Map) -> Map | None:
        """Follow a layer whose windows move over the image: the same pad before the first place, the same steps."""
        before, whole = self._shapes[node.inputs[0]], self._shapes[node.outputs[0]][of.axis]
        spatial, at = len(before) - 2, of.axis - 2
        if at < 0 or whole == of.whole == 1:
            return None
        get_ints = node.attributes.get_ints
        window = get_ints("kernel_shape") or self._shapes[node.inputs[1]][2:]
        steps = get_ints("strides", [1] * spatial)
        reach = [d * (side - 1) + 1 for d, side in zip(get_ints("dilations", [1] * spatial), window, strict=True)]
        pads = list(get_ints("pads", [0] * (2 * spatial)))
        kind = node.attributes.get_string("auto_pad", "NOTSET")
        if kind in ("SAME_UPPER", "SAME_LOWER"):
            pads = _same(kind, before[2:], steps, reach)
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)
            node.attributes["auto_pad"] = ir.AttrString("auto_pad", "NOTSET")
        free = of.count + pads[at] + pads[at + spatial] - reach[at]
        up = node.attributes.get_int("ceil_mode", 0)
        count = (-(-free // steps[at]) if up else free // steps[at]) + 1
        if free < 0 or count >= whole or whole <= SMALL:
            return None
        return Map(of.axis, count, whole)

    def _resized(self, node: ir.Node, of: Map) -> Map | None:
        """Follow an enlargement by whole numbers: by scales from now on, as its size is another."""
        if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") in BY_SIZE:
            return None
        before, after = self._shapes[node.inputs[0]], self._shapes[node.outputs[0]]
        scales = np.array([a / b for a, b in zip(after, before, strict=True)], np.float32)
        if (scales != np.round(scales)).any():
            return None
        node.resize_inputs(3)
        node.replace_input_with(1, None)
        node.replace_input_with(2, self._constant(f"hams_scales/{self._axis}/{node.outputs[0].name}", scales))
        factor = int(scales[of.axis])
        return Map(of.axis, of.count * factor, of.whole * factor)

    def _reduced(self, node: ir.Node) -> tuple[int, ...]:
        """Return the axes of a mean."""
        rank = len(self._shapes[node.inputs[0]])
        if node.op_type == "GlobalAveragePool":
            return tuple(range(2, rank))
        axes = node.attributes.get_ints("axes")
        if axes is None and len(node.inputs) > 1 and (given := graph.weight(node.inputs[1])) is not None:
            axes = given.tolist()
        return tuple(sorted(axis % rank for axis in axes)) if axes else tuple(range(rank))

    # ── what is missing ───────────────────────────────────────────────────────────────────────────────────────

    def _constant(self, name: str, values: Array) -> ir.Value:
        return graph.constant(self._model, name, values)

    def _put_back(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        """Return the tensor with all places again."""
        if value not in self._restored:
            name = f"hams_whole/{self._axis}/{value.name}"
            self._restored[value] = self._fill(value, name, value.name, reader)
        return self._restored[value]

    def _fill(self, value: ir.Value, back: str, target: str, reader: ir.Node | None = None) -> ir.Value:
        """Return `value` padded to all places, plus a constant that is fitted to what `target` was there."""
        here, shape = self._maps[value], self._shapes[value]
        pads = np.zeros(2 * len(shape), np.int64)
        pads[len(shape) + here.axis] = here.whole - here.count
        padded = graph.new_node("Pad", [value, self._constant(f"{back}/pads", pads)], f"{back}/padded")
        rest = self._constant(f"{back}/rest", np.zeros((1, *shape[1:]), np.float32))
        whole = graph.new_node("Add", [padded.outputs[0], rest], back)
        self._insert([padded, whole], reader)
        self._fits.append(Fit(target, padded.outputs[0], rest))
        return whole.outputs[0]

    def _correct_mean(self, node: ir.Node, of: Map) -> None:
        """Multiply a mean over fewer places, and add what the missing ones would have added."""
        value = node.outputs[0]
        name, share = value.name, of.count / of.whole
        value.name = part = f"hams_part/{self._axis}/{name}"
        factor = self._constant(f"{part}/share", np.array(share, np.float32))
        rest = self._constant(f"{part}/rest", np.zeros((1,) * len(self._shapes[value]), np.float32))
        scaled = graph.new_node("Mul", [value, factor], f"hams_scaled/{self._axis}/{name}")
        mean = graph.new_node("Add", [scaled.outputs[0], rest], name)
        mean.name = f"hams_mean/{self._axis}/{name}"
        self._shapes[mean.outputs[0]] = self._shapes[value]
        mean.outputs[0].type = value.type
        value.replace_all_uses_with(mean.outputs[0], replace_graph_outputs=True)
        scaled.replace_input_with(0, value)
        self._graph.insert_after(node, [scaled, mean])
        self._fits.append(Fit(name, value, rest, factor, share))

    def _insert(self, nodes: Sequence[ir.Node], reader: ir.Node | None) -> None:
        """Insert before the first `reader`, or at the end."""
        if reader is None:
            self._graph.extend(nodes)
        else:
            self._graph.insert_before(reader, nodes)


def _one_along(shape: tuple[int, ...], axis: int, rank: int) -> bool:
    """Return whether a tensor that is joined with one of `rank` is the same at all places of its `axis`."""
    at = axis - (rank - len(shape))
    return at < 0 or shape[at] == 1


def _same(kind: str, sizes: Sequence[int], steps: Sequence[int], reach: Sequence[int]) -> list[int]:
    """Return the pads of a layer whose padding is SAME_UPPER or SAME_LOWER."""
    begins, ends = [], []
    for size, step, window in zip(sizes, steps, reach, strict=True):
        total = max((-(-size // step) - 1) * step + window - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if kind == "SAME_UPPER" else more)
        ends.append(more if kind == "SAME_UPPER" else less)
    return begins + ends
