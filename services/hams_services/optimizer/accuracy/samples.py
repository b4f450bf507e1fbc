"""Sample folders: names, digests, labels, and the split into calibration set and hold-out set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hams_shared.errors import BadInputError, UnsupportedModelError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.wire.variants import task_key

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
LABELS = "labels.json"
HOLD_OUT = 3
"""The last third of the samples is held out: adjacent frames are near-duplicates, an interleaved split would leak."""


@dataclass(frozen=True)
class NodeSamples:
    """A node and its samples: a folder of images as it gets them, some to calibrate with, others held out."""

    name: str
    node: NodeSpec
    folder: Path
    calibration: list[str]
    hold_out: list[str]

    @classmethod
    def of(cls, name: str, node: NodeSpec, folder: Path, calibrate: int = 100) -> NodeSamples:
        """Split the samples of `folder`; at most `calibrate` to calibrate with.

        Raises:
            BadInputError: there are too few.
            UnsupportedModelError: its network has further inputs, which samples do not hold.
        """
        further = [key for key, source in node.inputs.items() if source.fact != "image"]
        if further:
            raise UnsupportedModelError(
                f"node {name} takes {', '.join(further)} besides the image: variants of such networks are not made",
                "it serves as it is; see docs/nco.md",
            )
        return cls(name, node, folder, *split(names_of(folder), calibrate))

    @cached_property
    def key(self) -> str:
        """The key of agreements with this node."""
        return task_key(self.node)

    @cached_property
    def calibration_digest(self) -> str:
        """SHA-256 of the calibration set."""
        return digest_of(self.folder, self.calibration)

    @cached_property
    def hold_out_digest(self) -> str:
        """SHA-256 of the hold-out set."""
        return digest_of(self.folder, self.hold_out)


def names_of(folder: Path) -> list[str]:
    """Return the images of `folder` in name order. Raises BadInputError when there are none."""
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not names:
        raise BadInputError(f"{folder} holds no images", f"looked for {', '.join(sorted(SUFFIXES))}")
    return names


def split(names: Sequence[str], calibrate: int) -> tuple[list[str], list[str]]:
    """Return which samples to calibrate with (at most `calibrate`, spread evenly) and which are held out.

    Raises:
        BadInputError: there are fewer than 3.
    """
    if len(names) < HOLD_OUT:
        raise BadInputError(f"{len(names)} samples are too few: some are needed to calibrate, others to compare")
    border = len(names) - len(names) // HOLD_OUT
    first = list(names[:border])
    count = min(calibrate, border)
    chosen = [first[i * border // count] for i in range(count)]
    return chosen, list(names[border:])


def digest_of(folder: Path, names: Sequence[str]) -> str:
    """Return the SHA-256 over names and contents, in order."""
    total = hashlib.sha256()
    for name in names:
        total.update(f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\0".encode())
    return total.hexdigest()


def read_labels(folder: Path) -> dict[str, Any]:
    """Return the content of ``labels.json``: file name → what the node ought to output. Raises BadInputError.

    A map of classes or depths is the name of a PNG below the folder, or has it as ``png``; it is read.
    """
    path = folder / LABELS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {error}", "its format is described in docs/nco.md") from None
    wrong = [n for n, one in found.items() if not isinstance(one, dict | list)] if isinstance(found, dict) else ["it"]
    if wrong or not found:
        raise BadInputError(f"{path}: {wrong[0] if wrong else 'it'} is not a map or a list", "see docs/nco.md")
    absent = [name for name in found if not (folder / name).is_file()]
    if absent:
        raise BadInputError(f"{path} names {absent[0]}, which is not there")
    return {name: _with_map(folder, one) for name, one in found.items()}


def _with_map(folder: Path, label: Any) -> Any:
    """Return a label whose map is a file with the content of that file."""
    known = label.get("map") if isinstance(label, dict) else None
    given = {"png": known} if isinstance(known, str) else known
    if not isinstance(given, dict) or not isinstance(given.get("png"), str):
        return label
    path = (folder / given["png"]).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BadInputError(f"{folder / LABELS} names the map {given['png']}, which is not below {folder}")
    return {**label, "map": {**given, "png": path.read_bytes()}}
