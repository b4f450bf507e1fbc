"""Student networks: each has the teacher's input and outputs, by name and shape, so that the node's task stays.

Inverted residuals: Sandler et al., CVPR 2018. Pyramid: Lin et al., *Feature Pyramid Networks*, CVPR 2017. A smaller
image as a dimension of a network's size: Tan & Le, *EfficientNet*, ICML 2019; Touvron et al., *FixRes*, NeurIPS 2019.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal, TypeVar

import onnx
import torch
from onnx2torch import convert
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation

from hams_services.optimizer.distill.request import TrainRequest
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import BadInputError, HamsError, UnsupportedModelError

STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 2, 1), (160, 2, 2))
"""Channels at width 1, blocks, stride of the first."""
STEM, FEATURES, PLACES, DECODED, EXPAND = 16, 256, 16, 24, 4
"""Channels of the first convolution, of pooled features, of features with places, of the pyramid; and within blocks."""
WIDTHS = tuple(round(0.15 * 1.15**i, 4) for i in range(26))
COLD = 0.1
"""The heat below which a place has no weight."""

Size = TypeVar("Size")
Kind = Literal["probabilities", "direction", "numbers", "heat", "map"]
_conv = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
_resized = partial(functional.interpolate, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Target:
    """One output of the teacher: its name, its shape without the batch, and its meaning.

    Rows of probabilities sum to 1; of a direction (embedding) the length does not count; heat is the probability of an
    object at each place, C×H×W; a map has numbers for each place, which count where heat is.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind

    @property
    def grid(self) -> tuple[int, ...]:
        """Channels, height and width in training: outputs that are no maps have one place."""
        return self.shape if self.kind in ("heat", "map") else (prod(self.shape), 1, 1)


class Student(nn.Module):  # type: ignore[misc]
    """Base of all students: scales what `raw` computes to the teacher's numbers, by a factor and an offset.

    `raw` returns each output for N×C×H×W images, as N×C×H×W; of probabilities and heat the logits.
    """

    kind, pretrained = "inverted residuals", False

    def __init__(self, targets: Sequence[Target], nhwc: bool) -> None:
        super().__init__()
        self.targets, self.nhwc = tuple(targets), nhwc
        self.channels = [target.grid[0] for target in targets]
        ones, zeros = ([f(1, count, 1, 1) for count in self.channels] for f in (torch.ones, torch.zeros))
        self.factor, self.offset = (
            nn.ParameterList(nn.Parameter(one, self.pretrained) for one in start) for start in (ones, zeros)
        )

    def calibrate(self, inputs: Tensor, reference: Sequence[Tensor]) -> None:
        """Take `units`, factor and offset of each output from samples: mean and standard deviation where it counts."""
        weight, self.units = place_weights(self.targets, reference), []
        for target, values, factor, offset in zip(self.targets, reference, self.factor, self.offset, strict=True):
            mean = _mean(values, weight)
            spread = _mean((values - mean).square(), weight).sqrt()
            self.units.append(spread.clamp_min(float(0.1 * spread.mean())).clamp_min(1e-6))
            if target.kind in ("map", "numbers"):
                factor.data, offset.data = self.units[-1], mean
            elif target.kind == "heat" and not self.pretrained:
                offset.data = torch.logit(values.mean((0, 2, 3), keepdim=True).clamp(1e-4, 0.5))

    def logits(self, x: Tensor) -> list[Tensor]:
        """Return the outputs in the teacher's numbers, N×C×H×W each; of probabilities and heat the logits."""
        return [y * by + plus for y, by, plus in zip(self.raw(x), self.factor, self.offset, strict=True)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs as the teacher's, for images in the node's layout."""
        outputs = []
        for target, y in zip(self.targets, self.logits(x.permute(0, 3, 1, 2) if self.nhwc else x), strict=True):
            y = torch.softmax(y, 1) if target.kind == "probabilities" else y
            y = torch.sigmoid(y) if target.kind == "heat" else y
            outputs.append(y if target.grid == target.shape else y.reshape(-1, *target.shape))
        return tuple(outputs)


class FreshStudent(Student):
    """Inverted residuals for images H×W of `size`, with pooled features for numbers, or a pyramid for maps."""

    def __init__(self, inputs: int, targets: Sequence[Target], nhwc: bool, size: Sequence[int], width: float) -> None:
        super().__init__(targets, nhwc)
        self.grid, self.width = targets[0].grid[1:], width
        self.maps = self.grid != (1, 1)
        now, stride, decoded = _channels(STEM, width), 2, _channels(DECODED, width)
        self.stages = nn.ModuleList([nn.Sequential(nn.BatchNorm2d(inputs, affine=False), _conv(inputs, now, stride=2))])
        self.laterals = nn.ModuleList()  # of the last stages: those with maps no larger than the outputs
        for count, blocks, step in STAGES[self.maps :]:  # maps need none at half the size
            expand = EXPAND if len(self.stages) > 1 else 1
            step = step if self.maps or min(size) // stride >= 8 else 1  # small images keep some places
            outputs = _channels(count, width)
            pairs = [(now, step), *[(outputs, 1)] * (blocks - 1)]
            self.stages.append(nn.Sequential(*(InvertedResidual(n, outputs, s, expand) for n, s in pairs)))
            now, stride = outputs, stride * step
            if self.maps and stride >= size[0] // self.grid[0]:
                self.laterals.append(nn.Conv2d(now, decoded, 1))
        if self.maps:
            filters = [_conv(decoded, decoded, groups=decoded), _conv(decoded, 2 * decoded, kernel_size=1)]
            self.head = nn.Sequential(*filters, nn.Conv2d(2 * decoded, sum(self.channels), 1))
            return
        features, places = _channels(FEATURES, width), -(-size[0] // stride) * -(-size[1] // stride)
        self.stages.append(_conv(now, features, kernel_size=1))
        self.places = nn.Sequential(nn.Conv2d(features, PLACES, 1), nn.ReLU6(), nn.Flatten())
        self.head = nn.Conv2d(features + PLACES * places, sum(self.channels), 1)

    def raw(self, x: Tensor) -> Sequence[Tensor]:
        """Return each output in standard deviations from its mean."""
        found = [x]
        for stage in self.stages:
            found.append(stage(found[-1]))
        if self.maps:  # the sum of a pyramid's levels, each made as large as the outputs
            levels = zip(self.laterals, found[-len(self.laterals) :], strict=True)
            x = torch.stack([functional.interpolate(lateral(level), self.grid) for lateral, level in levels]).sum(0)
        else:
            x = torch.cat([found[-1].mean((2, 3)), self.places(found[-1])], dim=1)[:, :, None, None]
        outputs: Sequence[Tensor] = torch.split(self.head(x), self.channels, dim=1)
        return outputs


class DownscaledStudent(Student):
    """The teacher itself (ONNX file `origin`) on an image of `size`, H×W; its maps are enlarged to the targets' size.

    Each map gets a factor and an offset, since sizes in pixels and offsets in cells change with the image. Raises
    UnsupportedModelError: the file cannot be trained, or not at this size.
    """

    pretrained = True

    def __init__(self, inputs: int, targets: Sequence[Target], nhwc: bool, origin: Path, size: Sequence[int]) -> None:
        super().__init__(targets, nhwc)
        self.size, image = tuple(size), f"{size[1]}×{size[0]}"
        self.kind = f"the network itself, on {image}"
        model = onnx.load(str(origin))
        if (names := [one.name for one in model.graph.output]) != [target.name for target in targets]:
            raise UnsupportedModelError(f"the outputs of its ONNX file differ: {', '.join(names)}")
        try:
            self.net = convert(model).to(memory_format=torch.channels_last)  # a third faster on processors
            with torch.no_grad():
                found = [tuple(one.shape) for one in self.eval()._small(torch.zeros(1, inputs, *size))]
        except Exception as error:  # onnx2torch, and operations that are bound to the old size, raise any kind
            raise UnsupportedModelError(f"PyTorch cannot read it, or run it on {image}: {reason(error)}") from None
        if any(len(shape) != 4 or shape[:2] != (1, count) for shape, count in zip(found, self.channels, strict=True)):
            raise UnsupportedModelError(f"on {image} its outputs are no smaller maps: {found}")

    def train(self, mode: bool = True) -> DownscaledStudent:
        """Stay in evaluation mode, with the statistics of batch normalisation: batches are small here."""
        super().train(False)
        return self

    def calibrate(self, inputs: Tensor, reference: Sequence[Tensor]) -> None:
        """Fit factor and offset of each map by least squares, over the places that count."""
        super().calibrate(inputs, reference)
        some = torch.linspace(0, len(inputs) - 1, 64).long().unique()
        with torch.no_grad():
            found = [torch.cat(maps) for maps in zip(*(self.raw(inputs[i : i + 1]) for i in some), strict=True)]
        wanted = [values[some] for values in reference]
        weight = place_weights(self.targets, wanted)
        for index in (index for index, target in enumerate(self.targets) if target.kind == "map"):
            self.factor[index].data, self.offset[index].data = fit_affine(found[index], wanted[index], weight)

    def raw(self, x: Tensor) -> Sequence[Tensor]:
        """Return the maps at the teacher's size, before factor and offset; of heat the logits."""
        found = zip(self.targets, self._small(_resized(x, self.size)), strict=True)
        enlarged = [(target, _resized(y, target.grid[1:])) for target, y in found]
        return [y.logit(1e-5) if target.kind == "heat" else y for target, y in enlarged]

    def _small(self, x: Tensor) -> list[Tensor]:
        """Return the network's outputs for small N×C×H×W images."""
        found = self.net(x.permute(0, 2, 3, 1) if self.nhwc else x)
        return [found] if isinstance(found, Tensor) else list(found)


def fitting(shape: tuple[int, ...], targets: Sequence[Target], request: TrainRequest) -> tuple[Student, str]:
    """Return the largest student within the budget, for an input of `shape`, and why it is not the teacher itself.

    For maps that is the teacher on a smaller image where possible, else the widest of inverted residuals.

    Raises:
        BadInputError: the narrowest exceeds the budget.
    """
    nhwc, note = request.layout == "nhwc", ""
    inputs, *image = (shape[2], *shape[:2]) if nhwc else shape

    def largest(sizes: Sequence[Size], make: Callable[[Size], Student]) -> Student:
        """Return the student of the last of the ascending sizes within the budget."""

        def made(size: Size) -> Student:
            torch.manual_seed(request.seed)  # the same weights, whatever was tried before
            return make(size)

        if count := bisect_right(sizes, request.gflops, key=lambda size: gflops(made(size), shape)):
            return made(sizes[count - 1])
        least = f"the smallest student needs {gflops(made(sizes[0]), shape):.4f} GFLOPs"
        raise BadInputError(f"{least}, more than {request.gflops:g}", "a larger --gflops")

    if targets[0].kind in ("heat", "map") and request.origin is not None and (smaller := smaller_sizes(image)):
        try:
            return largest(smaller, partial(DownscaledStudent, inputs, targets, nhwc, request.origin)), note
        except HamsError as error:
            note = f"it does not start as the network: {error.text}"
    return largest(WIDTHS, partial(FreshStudent, inputs, targets, nhwc, image)), note


def smaller_sizes(image: Sequence[int]) -> list[tuple[int, int]]:
    """Return smaller sizes of an image H×W, about its shape and in multiples of 32, the smallest first."""
    sizes = [(height, round(image[1] * height / image[0] / 32) * 32) for height in range(64, image[0] + 1, 32)]
    return [(h, w) for h, w in sizes if w >= 64 and h * w < image[0] * image[1]]


def gflops(network: nn.Module, shape: Sequence[int]) -> float:
    """Return the multiplications and additions of convolutions and linear layers for one input of `shape`, 10⁹."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *shape))
    return float(counter.get_total_flops()) / 1e9


def place_weights(targets: Sequence[Target], reference: Sequence[Tensor]) -> Tensor:
    """Return the weight of each place of maps, N×1×H×W in 0…1: its heat above `COLD`, since only these are used."""
    heat = [values for target, values in zip(targets, reference, strict=True) if target.kind == "heat"]
    weight = torch.cat(heat, 1).amax(1, keepdim=True).sub(COLD) if heat else torch.ones_like(reference[0][:, :1])
    return weight.clamp_min(0)


def fit_affine(given: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return factor and offset, 1×C×1×1, that bring `given` nearest to `wanted`, N×C×H×W, by weighted least squares."""
    low, high = _mean(given, weight), _mean(wanted, weight)
    together = _mean((given - low) * (wanted - high), weight)
    factor = together / _mean((given - low).square(), weight).clamp_min(1e-6)
    return factor, high - factor * low


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of each channel of N×C×H×W, 1×C×1×1."""
    return (values * weight).sum((0, 2, 3), keepdim=True) / weight.sum().clamp_min(1e-6)


def _channels(count: int, width: float) -> int:
    """Return the channels at a width: a multiple of 8, at least 8."""
    return max(8, round(count * width / 8) * 8)
