"""A student that begins as its teacher, on a smaller image: the image is made smaller first, the maps larger after.

A convolutional network does the same on an image of any size, in proportion to its pixels; most of what it knows stays
right on a smaller one. What each map says there differs from what the teacher says mostly by a factor and an offset
(sizes in pixels, offsets in cells), which are found by least squares; training mends the rest (resolution as a
dimension of a network's size: Tan & Le, *EfficientNet*, ICML 2019; FixRes: Touvron et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from hams_services.optimizer.distill.loss import cells, counting
from hams_services.optimizer.distill.request import Target
from hams_services.optimizer.distill.student import Learner
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import UnsupportedModelError

MULTIPLE = 32
"""Sides of the smaller image are multiples of it: networks halve the image up to five times."""
LEAST_SIDE = 64
FITTED = 64
"""Most images that factor and offset are found with."""
ALIKE = 0.3
"""Least correlation of what is said with what ought to be, for a factor to be found."""
EDGE = 1e-5
"""Chances are kept so far from 0 and 1 where logits are made of them."""


class ShrunkStudent(Learner):
    """The network of the ONNX file `origin` on an image of `size`, H×W, where the teacher's is larger.

    `targets` are maps, of any size. Raises UnsupportedModelError: the file cannot be trained, or not at this size.
    """

    begins_trained = True
    beta = 0.2  # it is nearly right from the beginning: small errors are all that is left

    def __init__(
        self,
        origin: Path,
        channels: int,
        image: tuple[int, int],
        size: tuple[int, int],
        targets: Sequence[Target],
        layout: str = "nchw",
    ) -> None:
        super().__init__(channels, targets, layout)
        self.size = size
        self.net, names = _trainable(origin)
        self.net.to(memory_format=torch.channels_last)  # a third faster on processors
        missing = [target.name for target in targets if target.name not in names]
        if missing:
            raise UnsupportedModelError(f"the ONNX file of the network has no output {missing[0]}")
        self._order = [names.index(target.name) for target in targets]
        self.factor = nn.ParameterList(nn.Parameter(torch.ones(1, t.shape[0], 1, 1)) for t in targets)
        self.offset = nn.ParameterList(nn.Parameter(torch.zeros(1, t.shape[0], 1, 1)) for t in targets)
        with torch.no_grad():
            try:
                said = self._small(torch.zeros(1, channels, *image))
            except Exception as error:  # whatever an operation that is bound to the old size says
                raise UnsupportedModelError(f"it does not run on {size[1]}×{size[0]}: {reason(error)}") from None
        found = [tuple(one.shape) for one in said]
        if any(len(a) != 4 or a[:2] != (1, t.shape[0]) for a, t in zip(found, targets, strict=True)):
            raise UnsupportedModelError(f"on {size[1]}×{size[0]} its outputs are no smaller maps: {found}")

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return f"the network itself, on {self.size[1]}×{self.size[0]}"

    def train(self, mode: bool = True) -> ShrunkStudent:
        """As usual, but batch normalisation stays as it was learned: batches are small here."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def normalize_like(self, tensors: Tensor) -> None:
        """It takes images as the teacher does."""

    def answer_like(self, inputs: Tensor, truth: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        """Find factor and offset of each map by least squares, over the places that count."""
        some = torch.linspace(0, len(inputs) - 1, min(FITTED, len(inputs))).long().unique()
        truth = [values[some] for values in truth]
        self.eval()
        with torch.no_grad():
            answers = [self._maps(self.plain(inputs[i : i + 1])) for i in some.tolist()]
        said = [torch.cat(parts) for parts in zip(*answers, strict=True)]
        where = cells(self.targets, truth)
        for index, (target, wanted, given) in enumerate(zip(self.targets, truth, said, strict=True)):
            if target.kind == "heat":
                continue
            factor, offset = fit(given, wanted, counting(wanted, where))
            self.factor[index].data.copy_(factor)
            self.offset[index].data.copy_(offset)

    def logits(self, x: Tensor) -> list[Tensor]:
        """The maps, N×C×H×W each; of heat before chances are made of it."""
        return [
            torch.logit(said.clamp(EDGE, 1 - EDGE)) if target.kind == "heat" else said
            for target, said in zip(self.targets, self._answer(x), strict=True)
        ]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, as the teacher's."""
        return tuple(self._answer(x))

    def _answer(self, x: Tensor) -> list[Tensor]:
        maps = zip(self.targets, self._maps(self.plain(x)), self.factor, self.offset, strict=True)
        return [said if target.kind == "heat" else said * by + plus for target, said, by, plus in maps]

    def _small(self, x: Tensor) -> list[Tensor]:
        """What the network says of N×C×H×W images made smaller."""
        x = functional.interpolate(x, self.size, mode="bilinear", align_corners=False)
        if self.layout == "nhwc":
            x = x.permute(0, 2, 3, 1)
        elif self.training:
            x = x.contiguous(memory_format=torch.channels_last)
        said = self.net(x)
        said = [said] if isinstance(said, Tensor) else list(said)
        return [said[index] for index in self._order]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """The same, as large as the targets."""
        return [
            functional.interpolate(one, target.shape[1:], mode="bilinear", align_corners=False)
            for target, one in zip(self.targets, self._small(x), strict=True)
        ]


def sizes(image: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Smaller sizes of an image H×W, about its shape, the largest first."""
    before = image
    for percent in range(97, 20, -2):
        height, width = (round(side * percent / 100 / MULTIPLE) * MULTIPLE for side in image)
        if (height, width) != before and min(height, width) >= LEAST_SIDE and height * width < image[0] * image[1]:
            before = height, width
            yield before


def fit(given: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and offset, 1×C×1×1, that bring `given` nearest to `wanted` (N×C×H×W) where `weight` (N×1×H×W) is."""
    over = (0, 2, 3)
    total = weight.sum().clamp_min(1e-6)

    def mean(values: Tensor) -> Tensor:
        return (values * weight).sum(over, keepdim=True) / total

    low, high = mean(given), mean(wanted)
    variance = mean((given - low).square())
    together = mean((given - low) * (wanted - high))
    alike = together / (variance * mean((wanted - high).square())).sqrt().clamp_min(1e-12)
    factor = torch.where(alike > ALIKE, together / variance.clamp_min(1e-12), torch.ones_like(alike))
    return factor, high - factor * low


def _trainable(path: Path) -> tuple[nn.Module, list[str]]:
    """The network of an ONNX file as PyTorch has it, with the names of its outputs."""
    try:
        from onnx2torch import convert
    except ImportError as error:
        raise UnsupportedModelError("onnx2torch is not installed", "pip install 'hams[train]'") from error
    model = onnx.load(str(path))
    try:
        network = convert(model)
    except Exception as error:  # it raises NotImplementedError, ValueError and others, by operation
        raise UnsupportedModelError(f"onnx2torch cannot read it: {' '.join(str(error).split())[:200]}") from None
    return network, [one.name for one in model.graph.output]
