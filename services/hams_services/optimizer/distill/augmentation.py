"""More images from few: lit, moved and scaled otherwise, as a camera and a detector's boxes change them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WANTED, LEAST, MOST = 1200, 3, 15
"""Images in all, and changed ones per image: what is changed costs no camera. A teacher is asked about each."""
MOST_BYTES = 1 << 30
"""Of all images together; fewer copies where that is not enough."""
CONTRAST, LIGHT = 0.3, 0.2
"""Most change of contrast, as a share, and of light, in standard deviations."""
SCALE, SHIFT = 0.2, 0.1
"""Most change of size, and of place as a share of the image."""
GENTLE = 0.7
"""How much of that, and of the change of light, where images are changed anew each time."""
TURN = 0.12
"""Most turn of those, radians."""


def _relit(x: Tensor, generator: torch.Generator, much: float = 1.0) -> Tensor:
    """Return N images brighter or darker, with more or less contrast."""
    shape = (len(x), *([1] * (x.dim() - 1)))
    level = x.mean(tuple(range(1, x.dim())), keepdim=True)
    contrast = 1 + much * CONTRAST * _between(shape, generator)
    shift = much * LIGHT * x.std() * _between(shape, generator)
    return (x - level) * contrast + level + shift


def _moved(x: Tensor, generator: torch.Generator, much: float = 1.0, turn: float = 0.0) -> Tensor:
    """Return N×C×H×W images a little larger or smaller, elsewhere, and turned by up to `turn`; edges are drawn out."""
    scale = 1 + much * SCALE * _between((len(x),), generator)
    place = 2 * much * SHIFT * _between((len(x), 2), generator)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    if turn:
        angle = turn * _between((len(x),), generator)
        shape = x.shape[2] / x.shape[3]
        theta[:, 0, 0] = theta[:, 1, 1] = scale * angle.cos()
        theta[:, 0, 1], theta[:, 1, 0] = -scale * angle.sin() * shape, scale * angle.sin() / shape
    theta[:, :, 2] = place
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def copies(x: Tensor, layout: str, seed: int) -> Tensor:
    """Return changed copies of N images, one round after another; none where the images are large already."""
    generator = torch.Generator().manual_seed(seed)
    count = min(max(LEAST, WANTED // len(x)), MOST, int(MOST_BYTES // max(1, x.numel() * 4)) - 1)
    rounds = []
    for _ in range(count):
        rounds.append(_changed(x, layout, generator))
    return torch.cat(rounds) if rounds else x[:0]


def anew(x: Tensor, layout: str, generator: torch.Generator) -> Tensor:
    """Return each of N images changed, turned as well, with all values within those of `x`."""
    return _changed(x, layout, generator, GENTLE, TURN).clamp(float(x.min()), float(x.max()))


def _changed(x: Tensor, layout: str, generator: torch.Generator, much: float = 1.0, turn: float = 0.0) -> Tensor:
    plain = x.permute(0, 3, 1, 2) if layout == "nhwc" else x
    changed = _moved(_relit(plain, generator, much), generator, much, turn)
    return changed.permute(0, 2, 3, 1) if layout == "nhwc" else changed


def _between(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Evenly spread in -1…1."""
    return 2 * torch.rand(shape, generator=generator) - 1
