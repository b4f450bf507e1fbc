"""Sample folders as the optimizer sees them: names, digests, labels, and which are held back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hams_shared.errors import BadInputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
LABELS = "labels.json"
HELD_BACK = 3
"""Every third part of the samples, the last one, is held back: neighbours in a video are alike."""


def names_of(folder: Path) -> list[str]:
    """Return the images of `folder` in name order. Raises BadInputError when there are none."""
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not names:
        raise BadInputError(f"{folder} holds no images", f"looked for {', '.join(sorted(SUFFIXES))}")
    return names


def split(names: Sequence[str], calibrate: int) -> tuple[list[str], list[str]]:
    """Return which samples to calibrate with (at most `calibrate`, spread evenly) and which are held back.

    Raises:
        BadInputError: there are fewer than 3.
    """
    if len(names) < HELD_BACK:
        raise BadInputError(f"{len(names)} samples are too few: some are needed to calibrate, others to compare")
    border = len(names) - len(names) // HELD_BACK
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
    """Return what ``labels.json`` says: file name → what the node ought to say. Raises BadInputError."""
    path = folder / LABELS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {error}", "docs/nco.md says what it holds") from None
    wrong = [n for n, said in found.items() if not isinstance(said, dict | list)] if isinstance(found, dict) else ["it"]
    if wrong or not found:
        raise BadInputError(f"{path}: {wrong[0] if wrong else 'it'} is not a map or a list", "see docs/nco.md")
    absent = [name for name in found if not (folder / name).is_file()]
    if absent:
        raise BadInputError(f"{path} names {absent[0]}, which is not there")
    labels: dict[str, Any] = found
    return labels
