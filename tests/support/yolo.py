"""A YOLO with known weights, written by PyTorch's own exporter in Ultralytics' two layouts.

Strides 8, 16 and 32, an anchor in the middle of each cell, distances from it by DFL (the mean of a softmax over 16
bins), scores by sigmoid. It finds cells that are all red ("red") or all blue ("blue"), and says the same box about
each: from the anchor one stride to the left, two up, three to the right and one down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

SIZE = 64
STRIDES = (8, 16, 32)
BINS = 16
LEFT, UP, RIGHT, DOWN = 1, 2, 3, 1
LABELS = ["red", "blue"]
SURE = 0.9933
"""sigmoid(5): the score of a cell that has one colour, wholly."""


def export(path: Path, layout: Literal["v5", "v8"]) -> Path:
    """Write the network as ONNX: 1×3×64×64 R, G, B 0-1 in; 1×6×84 (v8) or 1×84×7 (v5) out."""
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.classes = torch.nn.Conv2d(3, len(LABELS), 1)
            self.classes.weight.data = torch.tensor([[20.0, -20, -20], [-20, -20, 20]])[:, :, None, None]
            self.classes.bias.data.fill_(-15.0)
            self.distances = torch.nn.Conv2d(3, 4 * BINS, 1)
            self.distances.weight.data.zero_()
            self.distances.bias.data.fill_(-20.0)
            for side, distance in enumerate((LEFT, UP, RIGHT, DOWN)):
                self.distances.bias.data[side * BINS + distance] = 20.0
            self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32))

        def forward(self, x: Any) -> Any:
            boxes, scores = [], []
            for stride in STRIDES:
                cells = torch.nn.functional.avg_pool2d(x, stride)
                side = SIZE // stride
                scores.append(self.classes(cells).flatten(2).sigmoid())
                bins = self.distances(cells).reshape(1, 4, BINS, side * side).softmax(2)
                left, up, right, down = ((bins * self.bins[None, None, :, None]).sum(2) * stride).split(1, 1)
                middle = (torch.arange(side, dtype=torch.float32) + 0.5) * stride
                y, x_ = torch.meshgrid(middle, middle, indexing="ij")
                x0, y0 = x_.flatten() - left, y.flatten() - up
                x1, y1 = x_.flatten() + right, y.flatten() + down
                boxes.append(torch.cat(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0), 1))
            box, score = torch.cat(boxes, 2), torch.cat(scores, 2)
            if layout == "v8":
                return torch.cat((box, score), 1)
            return torch.cat((box, torch.ones_like(score[:, :1]), score), 1).transpose(1, 2)

    example = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(Net().eval(), (example,), str(path), dynamo=False, opset_version=17)
    return path
