"""Student networks: each has the teacher's outputs, by name and shape, so that the node's task stays.

Inverted residuals: Sandler et al., CVPR 2018. Pyramid: Lin et al., *Feature Pyramid Networks*, CVPR 2017. A smaller
image as a dimension of a network's size: Tan & Le, *EfficientNet*, ICML 2019; Touvron et al., *FixRes*, NeurIPS 2019.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from onnx2torch import convert
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops import Conv2dNormActivation, Permute

from hams_services.optimizer.least_squares import line, mean
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError

SEED, PLANE = 0, (0, 2, 3)
"""And the axes of N×C×H×W that statistics of channels are over."""
STEM, FEATURES, DECODED, CHANNELS = 16, 256, 24, (16, 24, 40, 80, 112, 160)
"""Channels at width 1: of the first convolution, of pooled features, of the pyramid, of stages."""
BLOCKS, STRIDES, EXPAND, PLACES = (1, 2, 2, 3, 2, 2), (1, 2, 2, 2, 1, 2), 4, 16
"""Of stages: blocks, stride of the first; factor on the channels within blocks; channels of features with places."""
WIDTHS = tuple(round(0.15 * 1.15**i, 4) for i in range(26))

_conv = partial(Conv2dNormActivation, activation_layer=nn.ReLU6)
_resized = partial(functional.interpolate, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Target:
    """One output of the teacher: its name, its shape without the batch, and its meaning.

    Rows of probabilities sum to 1; heat is the probability of an object at each place of a map; other maps have numbers
    for each place, which count where heat is.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["probabilities", "numbers", "heat"]
    grid: tuple[int, int, int]
    """Channels, height and width in training: outputs that are no maps have one place."""


class Student(nn.Module):  # type: ignore[misc]
    """A network `net` whose outputs are scaled to the teacher's numbers, by a factor and an offset of each channel.

    In training, all outputs are one tensor, N×C×H×W: the channels of the first target, of the second, and so on. That
    is what `net` returns for N×C×H×W images; of probabilities and heat the logits. With a `size`, H×W, `net` is the
    teacher itself on images of that size: its heat is no logit, and its maps are enlarged, and scaled since sizes in
    pixels and offsets in cells change with the image.
    """

    def __init__(self, net: nn.Module, targets: Sequence[Target], size: Sequence[int] = ()) -> None:
        super().__init__()
        self.net, self.targets, self.size, self.pretrained = net, tuple(targets), tuple(size), bool(size)
        self.kind = f"the network itself, on {size[1]}×{size[0]}" if size else "inverted residuals"
        self.channels = [target.grid[0] for target in targets]
        ones = torch.ones(1, sum(self.channels), 1, 1)
        self.factor, self.offset = (nn.Parameter(one, self.pretrained) for one in (ones, torch.zeros_like(ones)))

    def each(self, *tensors: Tensor) -> Iterator[tuple[Any, ...]]:
        """Yield each target with its part of the N×C×… `tensors`."""
        return zip(self.targets, *(one.split(self.channels, 1) for one in tensors), strict=True)

    def calibrate(self, inputs: Tensor, wanted: Tensor) -> None:
        """Take `units` of each channel from samples, its deviation where it counts; and factor and offset.

        These are deviation and mean; for the teacher's own maps they are fitted by least squares.
        """
        weight = self.weights(wanted)
        offset = mean(wanted, weight, PLANE)
        spread = mean((wanted - offset) ** 2, weight, PLANE).sqrt()
        least = [one.clamp_min(float(0.1 * one.mean())) for _, one in self.each(spread)]
        factor = self.units = torch.cat(least, 1).clamp_min(1e-6)
        if self.pretrained:
            with torch.no_grad():
                factor, offset = line(torch.cat([*map(self.raw, inputs.split(1))]), wanted, weight, PLANE)
        for target, by, plus, *found, values in self.each(self.factor.data, self.offset.data, factor, offset, wanted):
            if target.kind == "numbers":
                by[:], plus[:] = found
            elif target.kind == "heat" and not self.pretrained:
                plus[:] = torch.logit(values.mean(PLANE, keepdim=True).clamp(1e-4, 0.5))

    def raw(self, x: Tensor) -> Tensor:
        """Return the outputs before factor and offset; of probabilities and heat the logits."""
        if not self.size:
            return self.net(x)
        found = self.net(_resized(x, self.size))
        maps = _resized(found if isinstance(found, Tensor) else torch.cat(found, 1), self.targets[0].grid[1:])
        return torch.cat([y.logit(1e-5) if target.kind == "heat" else y for target, y in self.each(maps)], 1)

    def logits(self, x: Tensor) -> Tensor:
        """Return the outputs in the teacher's numbers; of probabilities and heat the logits."""
        return self.raw(x) * self.factor + self.offset

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs as the teacher's."""
        outputs = []
        for target, y in self.each(self.logits(x)):
            y = torch.softmax(y, 1) if target.kind == "probabilities" else y
            y = torch.sigmoid(y) if target.kind == "heat" else y
            outputs.append(y if target.grid == target.shape else y.reshape(-1, *target.shape))
        return tuple(outputs)

    def weights(self, wanted: Tensor) -> Tensor:
        """Return how much each place counts, N×1×H×W in 0…1: in maps its heat above 0.1, as only these are used."""
        hot = [values for target, values in self.each(wanted) if target.kind == "heat"]
        return torch.cat(hot, 1).amax(1, keepdim=True).sub(0.1).clamp_min(0) if hot else torch.ones_like(wanted[:, :1])

    def loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean loss over the outputs; 0 where the student equals the teacher.

        Probabilities and heat: KL divergence. Numbers: smooth L1 in `units`.
        """
        losses, weight = [], self.weights(wanted)
        for target, y, values, unit in self.each(logits, wanted, self.units):
            if target.kind == "heat":
                emphasis = 1 + 50 * values  # places with heat are few
                error = kl_divergence(Bernoulli(values.clamp(1e-6, 1 - 1e-6)), Bernoulli(logits=y))
                losses.append((error * emphasis).sum() / emphasis.sum() * 20)  # against the other outputs
            elif target.kind == "probabilities":
                losses.append(functional.kl_div(y.log_softmax(1), values.clamp_min(1e-8), reduction="batchmean"))
            else:
                error = functional.smooth_l1_loss(y / unit, values / unit, beta=0.5, reduction="none")
                losses.append(mean(error, weight, PLANE).mean())
        return torch.stack(losses).mean()


class InvertedResiduals(nn.Module):  # type: ignore[misc]
    """Inverted residuals for images C×H×W of `shape`, with pooled features for numbers, or a pyramid for maps."""

    def __init__(self, shape: Sequence[int], targets: Sequence[Target], width: float) -> None:
        super().__init__()
        self.grid, channels, (inputs, *sides) = targets[0].grid[1:], sum(target.grid[0] for target in targets), shape
        maps, stride = self.grid != (1, 1), 2
        counts = (STEM, DECODED, 2 * DECODED if maps else FEATURES, *CHANNELS)
        now, decoded, features, *scaled = (max(8, round(count * width / 8) * 8) for count in counts)
        stem = nn.Sequential(nn.BatchNorm2d(inputs, affine=False), _conv(inputs, now, stride=2))
        self.stages, self.laterals = nn.ModuleList([stem]), nn.ModuleList()
        for outputs, blocks, step in list(zip(scaled, BLOCKS, STRIDES, strict=True))[maps:]:  # maps: none at half size
            expand = EXPAND if len(self.stages) > 1 else 1
            step = step if maps or min(sides) // stride >= 8 else 1  # small images keep some places
            pairs = [(now, step), *[(outputs, 1)] * (blocks - 1)]
            self.stages.append(nn.Sequential(*(InvertedResidual(n, outputs, s, expand) for n, s in pairs)))
            now, stride = outputs, stride * step
            if maps and stride >= sides[0] // self.grid[0]:  # no larger than the outputs
                self.laterals.append(nn.Conv2d(now, decoded, 1))
        if maps:
            self.head = nn.Sequential(_conv(decoded, decoded, groups=decoded), _conv(decoded, features, kernel_size=1))
        else:
            self.stages.append(_conv(now, features, kernel_size=1))
            self.places = nn.Sequential(nn.Conv2d(features, PLACES, 1), nn.ReLU6(), nn.Flatten())
            self.head, features = nn.Sequential(), features + PLACES * prod(-(-side // stride) for side in sides)
        self.head.append(nn.Conv2d(features, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return all outputs in standard deviations from their mean, N×C×H×W."""
        found = []
        for stage in self.stages:
            found.append(x := stage(x))
        if self.laterals:  # the sum of a pyramid's levels, each made as large as the outputs
            levels = zip(self.laterals, found[-len(self.laterals) :], strict=True)
            x = torch.stack([functional.interpolate(lateral(level), self.grid) for lateral, level in levels]).sum(0)
        else:
            x = torch.cat([x.mean((2, 3)), self.places(x)], 1)[:, :, None, None]
        return self.head(x)


def fitting(
    shape: Sequence[int], targets: Sequence[Target], most: float, origin: Path | None = None, nhwc: bool = False
) -> tuple[Student, str]:
    """Return the largest student within `most` GFLOPs for images C×H×W of `shape`, and why it is not the teacher.

    For maps that is the teacher itself (ONNX file `origin`, whose layout may be `nhwc`) on a smaller image where
    possible, else the widest of inverted residuals; the narrowest if all exceed the budget.
    """
    note = ""
    if origin is not None and targets[0].grid[1:] != (1, 1) and (sizes := smaller_sizes(shape[1:])):
        try:
            model = onnx.load(str(origin))
            if (names := [one.name for one in model.graph.output]) != [target.name for target in targets]:
                raise UnsupportedModelError(f"the outputs of its ONNX file differ: {', '.join(names)}")
            net = convert(model).to(memory_format=torch.channels_last)  # a third faster on processors
            net = nn.Sequential(Permute([0, 2, 3, 1]), net) if nhwc else net
            student = _largest([partial(Student, net, targets, size) for size in sizes], shape, most)
            if (needed := gflops(student, shape)) <= most:
                return student, note
            raise UnsupportedModelError(f"{student.kind}, it needs {needed:.4f} GFLOPs")
        except Exception as error:  # onnx2torch, and operations that are bound to the old size, raise any kind
            note = f"it does not start as the network: {reason(error)}"
    fresh = [lambda width=width: Student(InvertedResiduals(shape, targets, width), targets) for width in WIDTHS]
    return _largest(fresh, shape, most), note


def _largest(students: Sequence[Callable[[], Student]], shape: Sequence[int], most: float) -> Student:
    """Return the last of ascending students within `most` GFLOPs; the first if there is none."""
    count = bisect_right(students, most, key=lambda make: gflops(make(), shape))
    torch.manual_seed(SEED)  # the same weights, whatever was tried before
    return students[max(count, 1) - 1]()


def smaller_sizes(image: Sequence[int]) -> list[tuple[int, int]]:
    """Return smaller sizes of an image H×W, about its shape and in multiples of 32, the smallest first."""
    sizes = [(height, round(image[1] * height / image[0] / 32) * 32) for height in range(64, image[0] + 1, 32)]
    return [(h, w) for h, w in sizes if w >= 64 and h * w < image[0] * image[1]]


def gflops(student: Student, shape: Sequence[int]) -> float:
    """Return multiplications and additions for one image C×H×W, 10⁹. Raises UnsupportedModelError: other outputs."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = [tuple(one.shape) for one in student.eval()(torch.zeros(1, *shape))]
    if found != [(1, *target.shape) for target in student.targets]:
        raise UnsupportedModelError(f"{student.kind}, its outputs are no smaller maps: {found}")
    return float(counter.get_total_flops()) / 1e9
