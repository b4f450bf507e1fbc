"""The student: a small convolutional network (inverted residuals, Sandler et al., CVPR 2018) of any width.

It takes the teacher's input and has the teacher's outputs, by name and shape, so that the node's task stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hams_services.optimizer.distill.loss import BETA
from hams_services.optimizer.distill.request import Target

STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 2, 1), (160, 2, 2))
"""Channels at width 1, blocks, stride of the first."""
EXPAND = 4
FEATURES = 256
WIDTHS = tuple(round(0.15 * 1.15**i, 4) for i in range(26))
"""Widths that are tried, smallest first: 0.15 to about 5."""


def channels(count: int, width: float) -> int:
    """Channels at a width: a multiple of 8, at least 8."""
    return max(8, round(count * width / 8) * 8)


class Block(nn.Module):  # type: ignore[misc]
    """Expand, filter by channel, project; with a way around it where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int = EXPAND) -> None:
        super().__init__()
        hidden = inputs * expand
        self.around = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        y: Tensor = self.layers(x)
        return x + y if self.around else y


class Learner(nn.Module):  # type: ignore[misc]
    """What all students do alike; `inputs` are the channels of the image."""

    begins_trained = False
    """Whether its weights are a trained network's: it is then trained gently, on images varied anew in each epoch."""
    beta = BETA
    """What errors of its maps count by; see :func:`hams_services.optimizer.distill.loss.loss`."""
    width = 0.0
    """Of inverted residuals."""

    def __init__(self, inputs: int, targets: Sequence[Target], layout: str) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.layout = layout
        self.register_buffer("mean", torch.zeros(1, inputs, 1, 1))
        self.register_buffer("scale", torch.ones(1, inputs, 1, 1))

    def normalize_like(self, tensors: Tensor) -> None:
        """Take mean and scale from samples N×C×H×W: they bring raw inputs near to 0 ± 1."""
        self.mean.copy_(tensors.mean((0, 2, 3), keepdim=True))
        self.scale.copy_(tensors.std((0, 2, 3), keepdim=True).clamp_min(1e-3))

    def plain(self, x: Tensor) -> Tensor:
        """Images as they come, as N×C×H×W."""
        return x.permute(0, 3, 1, 2) if self.layout == "nhwc" else x

    def normalized(self, x: Tensor) -> Tensor:
        """Images as they come, as N×C×H×W near to 0 ± 1."""
        return (self.plain(x) - self.mean) / self.scale

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return "inverted residuals"

    def answer_like(self, inputs: Tensor, truth: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        """Take from what is to be learned of `inputs` what heads need not learn."""
        raise NotImplementedError

    def logits(self, x: Tensor) -> list[Tensor]:
        """What the heads say, in the targets' own units; before chances are made of it."""
        raise NotImplementedError


class Student(Learner):
    """Says one row of numbers per output; of images H×W of `size`."""

    def __init__(
        self, inputs: int, size: tuple[int, int], targets: Sequence[Target], width: float, layout: str = "nchw"
    ) -> None:
        super().__init__(inputs, targets, layout)
        self.width = width
        now = channels(16, width)
        layers: list[nn.Module] = [nn.Conv2d(inputs, now, 3, 2, 1, bias=False), nn.BatchNorm2d(now), nn.ReLU6()]
        smallest = min(size) // 2
        for count, blocks, stride in STAGES:
            stride = stride if smallest >= 8 else 1  # small images are not shrunk to nothing
            smallest //= stride
            for index in range(blocks):
                outputs = channels(count, width)
                layers.append(Block(now, outputs, stride if index == 0 else 1))
                now = outputs
        features = channels(FEATURES, width)
        layers += [nn.Conv2d(now, features, 1, bias=False), nn.BatchNorm2d(features), nn.ReLU6()]
        self.body = nn.Sequential(*layers)
        # Pooled to 4×4 where places matter (points), to one value where only what is there does.
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.spread = nn.Sequential(nn.Conv2d(features, 16, 1), nn.ReLU6(), nn.Flatten())
        with torch.no_grad():
            probe = self.body(torch.zeros(1, inputs, *size))
        places = 16 * probe.shape[2] * probe.shape[3]
        self.heads = nn.ModuleList(nn.Linear(features + places, math.prod(t.shape)) for t in self.targets)
        for index, target in enumerate(self.targets):
            self.register_buffer(f"center{index}", torch.zeros(math.prod(target.shape)))
            self.register_buffer(f"unit{index}", torch.ones(math.prod(target.shape)))

    def answer_like(self, inputs: Tensor, truth: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        """Take the mean of each number from what is to be learned: heads learn what is left, in `units`.

        A number in the thousands is otherwise out of the optimizer's reach.
        """
        for index, (target, values, unit) in enumerate(zip(self.targets, truth, units, strict=True)):
            if target.kind == "numbers":
                self.get_buffer(f"center{index}").copy_(values.flatten(1).mean(0))
                self.get_buffer(f"unit{index}").copy_(unit)

    def logits(self, x: Tensor) -> list[Tensor]:
        """What the heads say, N×K each, in the target's own units; before probabilities are made of it."""
        x = self.body(self.normalized(x))
        y = torch.cat([self.pool(x).flatten(1), self.spread(x)], dim=1)
        said = enumerate(head(y) for head in self.heads)
        return [one * self.get_buffer(f"unit{i}") + self.get_buffer(f"center{i}") for i, one in said]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, as the teacher's."""
        outputs = []
        for target, said in zip(self.targets, self.logits(x), strict=True):
            said = torch.softmax(said, 1) if target.kind == "probabilities" else said
            outputs.append(said.reshape(-1, *target.shape))
        return tuple(outputs)


def gflops(network: nn.Module, shape: Sequence[int]) -> float:
    """Multiplications and additions of the convolutions and linear layers for one input of `shape`, 10⁹."""
    total = 0

    def count(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            kernel = math.prod(module.kernel_size) * module.in_channels // module.groups
            total += 2 * kernel * output[0].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            kernel = math.prod(module.kernel_size) * module.out_channels // module.groups
            total += 2 * kernel * given[0][0].numel()
        elif isinstance(module, nn.Linear):
            total += 2 * module.in_features * module.out_features

    hooks = [m.register_forward_hook(count) for m in network.modules()]
    was = network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, *shape))
    network.train(was)
    for hook in hooks:
        hook.remove()
    return total / 1e9
