"""The student of a network that says something of each place: a small pyramid of features with one map per output.

Inverted residuals down (Sandler et al., CVPR 2018), sums of neighbouring levels up (Lin et al., *Feature Pyramid
Networks*, CVPR 2017), to the size of the teacher's maps; so detectors without anchors are learned (CenterFace,
CenterNet).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hams_services.optimizer.distill.loss import cells, mean_and_unit
from hams_services.optimizer.distill.request import Target
from hams_services.optimizer.distill.student import EXPAND, Block, Learner, channels

STEM = 12
LEVELS = ((20, 1), (32, 2), (56, 3), (80, 2))
"""Channels at width 1 and blocks of the levels at 1/4, 1/8, 1/16, 1/32 of the image's size."""
DECODED = 24
"""Channels at width 1 of the sums."""


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class MapStudent(Learner):
    """As :class:`hams_services.optimizer.distill.student.Student`, for targets that are maps C×H×W of one size.

    The size is the image's, H×W of `size`, by 4, 8 or 16 (:func:`stride_of`).
    """

    def __init__(
        self, inputs: int, size: tuple[int, int], targets: Sequence[Target], width: float, layout: str = "nchw"
    ) -> None:
        super().__init__(inputs, targets, layout)
        self.width = width
        stem = channels(STEM, width)
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU6()
        )  # half the size
        first = int(math.log2(size[0] // targets[0].shape[1])) - 2
        """Which of the levels has the size of the maps."""
        decoded = channels(DECODED, width)
        self.levels, self.laterals, self.smooth = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        now, halves = stem, 1
        for index, (count, blocks) in enumerate(LEVELS):
            halves += 1
            if size[0] % 2**halves or size[1] % 2**halves:
                break  # a level that is no whole part of the image's size cannot be added to the one above it
            outputs = channels(count, width)
            # At a quarter of the size what is expanded costs most and finds least.
            self.levels.append(
                nn.Sequential(
                    *(Block(now if i == 0 else outputs, outputs, 2 if i == 0 else 1, EXPAND if index else 1)
                      for i in range(blocks))
                )
            )  # fmt: skip
            now = outputs
            if index >= first:
                self.laterals.append(nn.Conv2d(outputs, decoded, 1))
                self.smooth.append(_separable(decoded, decoded))
        maps = sum(target.shape[0] for target in targets)
        self.head = nn.Sequential(_separable(decoded, 2 * decoded), nn.Conv2d(2 * decoded, maps, 1))
        for index, target in enumerate(self.targets):
            self.register_buffer(f"center{index}", torch.zeros(1, target.shape[0], 1, 1))
            self.register_buffer(f"unit{index}", torch.ones(1, target.shape[0], 1, 1))

    def answer_like(self, inputs: Tensor, truth: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        """Take what each map says in the mean, where it counts: heads learn what is left, in units of its spread."""
        where = cells(self.targets, truth)
        for index, (target, values) in enumerate(zip(self.targets, truth, strict=True)):
            if target.kind == "heat":
                rare = values.mean((0, 2, 3)).clamp(1e-4, 0.5)
                self.get_buffer(f"center{index}").copy_(torch.logit(rare)[None, :, None, None])
            else:
                self.get_buffer(f"center{index}").copy_(mean_and_unit(values, where)[0])
                self.get_buffer(f"unit{index}").copy_(units[index])

    def logits(self, x: Tensor) -> list[Tensor]:
        """What the heads say, N×C×H×W each, in the target's own units; of heat before chances are made of it."""
        x = self.stem(self.normalized(x))
        found = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        found = found[-len(self.laterals) :]
        y = self.smooth[-1](self.laterals[-1](found[-1]))
        for lateral, smooth, feature in zip(
            reversed(self.laterals[:-1]), reversed(self.smooth[:-1]), reversed(found[:-1]), strict=True
        ):
            y = smooth(lateral(feature) + functional.interpolate(y, scale_factor=2.0, mode="nearest"))
        said = torch.split(self.head(y), [target.shape[0] for target in self.targets], dim=1)
        return [one * self.get_buffer(f"unit{i}") + self.get_buffer(f"center{i}") for i, one in enumerate(said)]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, as the teacher's."""
        return tuple(
            torch.sigmoid(said) if target.kind == "heat" else said
            for target, said in zip(self.targets, self.logits(x), strict=True)
        )


def stride_of(shape: tuple[int, ...], image: tuple[int, int]) -> int:
    """By how much a map C×H×W is smaller than the image H×W: 4, 8 or 16; 0 where it is no such map."""
    if len(shape) != 3 or min(shape[1:]) < 8:
        return 0
    for stride in (4, 8, 16):
        if tuple(side * stride for side in shape[1:]) == image:
            return stride
    return 0
