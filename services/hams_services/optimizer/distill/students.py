"""Student networks: each has the teacher's input and outputs, by name and shape, so that the node's task stays.

Inverted residuals: Sandler et al., CVPR 2018. Pyramid: Lin et al., *Feature Pyramid Networks*, CVPR 2017. A smaller
image as a dimension of a network's size: Tan & Le, *EfficientNet*, ICML 2019; Touvron et al., *FixRes*, NeurIPS 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

from hams_services.optimizer.distill.request import MAPS, Target
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError

STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 2, 1), (160, 2, 2))
"""Channels at width 1, blocks, stride of the first."""
EXPAND = 4
STEM, FEATURES, PLACES, DECODED = 16, 256, 16, 24
"""Channels of the first convolution, of pooled features, of features that keep their places, and of pyramid sums."""
WIDTHS = tuple(round(0.15 * 1.15**i, 4) for i in range(26))
MULTIPLE, LEAST_SIDE = 32, 64
"""Sides of a smaller image are multiples of 32, since networks halve the image up to five times; and the least side."""
FITTED, ALIKE, COLD = 64, 0.3, 0.1
"""For factors of maps: most images, least correlation; and the heat below which a place has no weight."""
EDGE = 1e-5
"""Probabilities are kept this far from 0 and 1 where logits are computed of them."""

_conv = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)


class Student(nn.Module):  # type: ignore[misc]
    """Base of all students: normalises images, and scales what the heads compute to the targets' units."""

    kind = "inverted residuals"
    pretrained = False
    """Whether it starts with trained weights: it is then trained gently, on images that change in each epoch."""
    beta = 0.5
    """Errors below it count by their square, those above by their size, in standard deviations."""

    def __init__(self, inputs: int, targets: Sequence[Target], nhwc: bool, width: float = 0.0) -> None:
        super().__init__()
        self.targets, self.nhwc, self.width = tuple(targets), nhwc, width
        self.register_buffer("mean", torch.zeros(1, inputs, 1, 1))
        self.register_buffer("scale", torch.ones(1, inputs, 1, 1))
        for index, target in enumerate(self.targets):
            shape = (1, target.shape[0], 1, 1) if target.kind in MAPS else (math.prod(target.shape),)
            self.register_buffer(f"center{index}", torch.zeros(shape))
            self.register_buffer(f"unit{index}", torch.ones(shape))

    def calibrate(self, inputs: Tensor, reference: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        """Take normalisation and the mean of each output from samples, so that heads learn the rest, in `units`."""
        self.mean.copy_(inputs.mean((0, 2, 3), keepdim=True))
        self.scale.copy_(inputs.std((0, 2, 3), keepdim=True).clamp_min(1e-3))
        weight = place_weights(self.targets, reference)
        for index, (target, values) in enumerate(zip(self.targets, reference, strict=True)):
            center = self.get_buffer(f"center{index}")
            if target.kind == "heat":
                center.copy_(torch.logit(values.mean((0, 2, 3), keepdim=True).clamp(1e-4, 0.5)))
            elif target.kind in ("map", "numbers"):
                mean = mean_and_spread(values, weight)[0] if target.kind == "map" else values.flatten(1).mean(0)
                center.copy_(mean)
                self.get_buffer(f"unit{index}").copy_(units[index])

    def logits(self, x: Tensor) -> list[Tensor]:
        """Return the outputs in the targets' units, N×K or N×C×H×W; of probabilities and heat the logits."""
        found = self.heads((x - self.mean) / self.scale)
        return [y * self.get_buffer(f"unit{i}") + self.get_buffer(f"center{i}") for i, y in enumerate(found)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs as the teacher's, for images in the node's layout."""
        outputs = []
        for target, y in zip(self.targets, self.logits(x.permute(0, 3, 1, 2) if self.nhwc else x), strict=True):
            y = torch.softmax(y, 1) if target.kind == "probabilities" else y
            y = torch.sigmoid(y) if target.kind == "heat" else y
            outputs.append(y if target.kind in MAPS else y.reshape(-1, *target.shape))
        return tuple(outputs)


class FreshStudent(Student):
    """Inverted residuals for images H×W of `size`: a head per row of numbers, or a pyramid for maps of one size."""

    def __init__(self, inputs: int, size: Sequence[int], targets: Sequence[Target], nhwc: bool, width: float) -> None:
        super().__init__(inputs, targets, nhwc, width)
        self.maps = targets[0].kind in MAPS
        now, stride = _channels(STEM, width), 2
        self.stages = nn.ModuleList([_conv(inputs, now, stride=2)])
        ends = {stride: (0, now)}  # stage and channels by stride
        for count, blocks, step in STAGES[self.maps :]:  # maps need none at half the size
            expand = EXPAND if len(self.stages) > 1 else 1
            if self.maps and any(side % (stride * step) for side in size):
                break  # a level that does not divide the image cannot be added to the one above it
            step = step if self.maps or min(size) // stride >= 8 else 1  # small images keep some places
            outputs = _channels(count, width)
            pairs = [(now, step), *[(outputs, 1)] * (blocks - 1)]
            self.stages.append(nn.Sequential(*(InvertedResidual(n, outputs, s, expand) for n, s in pairs)))
            now, stride = outputs, stride * step
            ends[stride] = len(self.stages) - 1, now
        if self.maps:
            decoded, self.sizes = _channels(DECODED, width), [target.shape[0] for target in targets]
            used = [end for stride, end in ends.items() if stride >= stride_of(targets[0].shape, size)]
            self.levels = [stage for stage, _ in used]
            self.laterals = nn.ModuleList(nn.Conv2d(channels, decoded, 1) for _, channels in used)
            filters = [_conv(decoded, decoded, groups=decoded), _conv(decoded, 2 * decoded, kernel_size=1)]
            self.head = nn.Sequential(*filters, nn.Conv2d(2 * decoded, sum(self.sizes), 1))
            return
        features, count = _channels(FEATURES, width), PLACES * math.prod(-(-side // stride) for side in size)
        self.stages.append(_conv(now, features, kernel_size=1))
        self.places = nn.Sequential(nn.Conv2d(features, PLACES, 1), nn.ReLU6(), nn.Flatten())
        self.head = nn.ModuleList(nn.Linear(features + count, math.prod(t.shape)) for t in targets)

    def heads(self, x: Tensor) -> Sequence[Tensor]:
        """Return N×K or N×C×H×W of each output for normalised N×C×H×W images."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        if not self.maps:
            x = torch.cat([x.mean((2, 3)), self.places(x)], dim=1)
            return [head(x) for head in self.head]
        y = self.laterals[-1](found[self.levels[-1]])
        for lateral, level in zip(reversed(self.laterals[:-1]), reversed(self.levels[:-1]), strict=True):
            y = lateral(found[level]) + functional.interpolate(y, scale_factor=2.0, mode="nearest")
        maps: Sequence[Tensor] = torch.split(self.head(y), self.sizes, dim=1)
        return maps


class DownscaledStudent(Student):
    """The teacher itself (ONNX file `origin`) on an image of `size`, H×W; its maps are enlarged to the targets' size.

    Each map gets a factor and an offset, since sizes in pixels and offsets in cells change with the image. Raises
    UnsupportedModelError: the file cannot be trained, or not at this size.
    """

    pretrained = True
    beta = 0.2  # it starts nearly right: only small errors are left

    def __init__(
        self,
        inputs: int,
        image: Sequence[int],
        targets: Sequence[Target],
        nhwc: bool,
        origin: Path,
        size: Sequence[int],
    ) -> None:
        super().__init__(inputs, targets, nhwc)
        self.size, self.kind = tuple(size), f"the network itself, on {size[1]}×{size[0]}"
        self.net, names = _trainable(origin)
        self.net.to(memory_format=torch.channels_last)  # a third faster on processors
        if missing := [target.name for target in targets if target.name not in names]:
            raise UnsupportedModelError(f"the ONNX file of the network has no output {missing[0]}")
        self._order = [names.index(target.name) for target in targets]
        try:
            with torch.no_grad():
                found = [tuple(one.shape) for one in self._small(torch.zeros(1, inputs, *image))]
        except Exception as error:  # any: raised by an operation that is bound to the old size
            raise UnsupportedModelError(f"it does not run on {size[1]}×{size[0]}: {reason(error)}") from None
        if any(len(a) != 4 or a[:2] != (1, t.shape[0]) for a, t in zip(found, targets, strict=True)):
            raise UnsupportedModelError(f"on {size[1]}×{size[0]} its outputs are no smaller maps: {found}")
        self.factor = nn.ParameterList(nn.Parameter(torch.ones(1, t.shape[0], 1, 1)) for t in targets)
        self.offset = nn.ParameterList(nn.Parameter(torch.zeros(1, t.shape[0], 1, 1)) for t in targets)

    def train(self, mode: bool = True) -> DownscaledStudent:
        """Set the mode, but keep the statistics of batch normalisation: batches are small here."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def calibrate(self, inputs: Tensor, reference: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        """Fit factor and offset of each map by least squares, over the places that count."""
        some = torch.linspace(0, len(inputs) - 1, min(FITTED, len(inputs))).long().unique().tolist()
        with torch.no_grad():
            answers = [self.eval()._maps(inputs[i : i + 1]) for i in some]
        weight = place_weights(self.targets, [values[some] for values in reference])
        for index, target in enumerate(self.targets):
            if target.kind == "map":
                found = fit_affine(torch.cat([maps[index] for maps in answers]), reference[index][some], weight)
                self.factor[index].data, self.offset[index].data = found

    def logits(self, x: Tensor) -> list[Tensor]:
        """Return the maps, N×C×H×W each; of heat the logits."""
        found = zip(self.targets, self._maps(x), self.factor, self.offset, strict=True)
        return [y.clamp(EDGE, 1 - EDGE).logit() if t.kind == "heat" else y * by + plus for t, y, by, plus in found]

    def _small(self, x: Tensor) -> list[Tensor]:
        """Return the network's outputs for N×C×H×W images, which are made smaller."""
        x = functional.interpolate(x, self.size, mode="bilinear", align_corners=False)
        if self.nhwc:
            x = x.permute(0, 2, 3, 1)
        elif self.training:
            x = x.contiguous(memory_format=torch.channels_last)
        found = self.net(x)
        return [([found] if isinstance(found, Tensor) else found)[index] for index in self._order]

    def _maps(self, x: Tensor) -> list[Tensor]:
        pairs = zip(self.targets, self._small(x), strict=True)
        return [functional.interpolate(y, t.shape[1:], mode="bilinear", align_corners=False) for t, y in pairs]


def smaller_sizes(image: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield smaller sizes of an image H×W, about its shape, the largest first."""
    for height in range(image[0] // MULTIPLE * MULTIPLE, LEAST_SIDE - 1, -MULTIPLE):
        width = round(image[1] * height / image[0] / MULTIPLE) * MULTIPLE
        if width >= LEAST_SIDE and height * width < image[0] * image[1]:
            yield height, width


def stride_of(shape: Sequence[int], image: Sequence[int]) -> int:
    """Return by how much a map C×H×W is smaller than the image H×W: 4, 8 or 16; 0 where it is no such map."""
    strides = (4, 8, 16) if len(shape) == 3 and min(shape[1:]) >= 8 else ()
    return next((stride for stride in strides if [side * stride for side in shape[1:]] == list(image)), 0)


def gflops(network: nn.Module, shape: Sequence[int]) -> float:
    """Return the multiplications and additions of convolutions and linear layers for one input of `shape`, 10⁹."""
    was = network.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *shape))
    network.train(was)
    return float(counter.get_total_flops()) / 1e9


def place_weights(targets: Sequence[Target], reference: Sequence[Tensor]) -> Tensor:
    """Return the weight of each place of maps, N×1×H×W in 0…1: its heat above `COLD`, since only these are used."""
    heat = [values for target, values in zip(targets, reference, strict=True) if target.kind == "heat"]
    weight = torch.cat(heat, 1).amax(1, keepdim=True).sub(COLD) if heat else torch.ones_like(reference[0][:, :1])
    return weight.clamp_min(0)


def mean_and_spread(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted mean and standard deviation of each channel of N×C×H×W, 1×C×1×1."""
    total = weight.sum().clamp_min(1e-6)
    mean = (values * weight).sum((0, 2, 3), keepdim=True) / total
    return mean, (((values - mean).square() * weight).sum((0, 2, 3), keepdim=True) / total).sqrt().clamp_min(1e-3)


def fit_affine(given: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return factor and offset, 1×C×1×1, that bring `given` nearest to `wanted`, N×C×H×W, by weighted least squares."""
    low, spread = mean_and_spread(given, weight)
    high, wide = mean_and_spread(wanted, weight)
    together = mean_and_spread((given - low) * (wanted - high), weight)[0]
    alike = together / (spread * wide)
    factor = torch.where(alike > ALIKE, together / spread.square(), torch.ones_like(alike))
    return factor, high - factor * low


def _channels(count: int, width: float) -> int:
    """Return the channels at a width: a multiple of 8, at least 8."""
    return max(8, round(count * width / 8) * 8)


def _trainable(path: Path) -> tuple[nn.Module, list[str]]:
    """Return the network of an ONNX file for PyTorch, and the names of its outputs."""
    try:
        from onnx2torch import convert
    except ImportError as error:
        raise UnsupportedModelError("onnx2torch is not installed", "pip install 'hams[train]'") from error
    model = onnx.load(str(path))
    try:
        return convert(model), [one.name for one in model.graph.output]
    except Exception as error:  # it raises NotImplementedError, ValueError and others, by operation
        raise UnsupportedModelError(f"onnx2torch cannot read it: {reason(error)}") from None
