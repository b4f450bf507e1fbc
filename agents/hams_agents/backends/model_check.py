"""Checks of a network file that need no runtime, and a runtime's error as one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from hams_agents.backends.base import ModelFile
from hams_shared.errors import ModelError, UnsupportedModelError

Dim = int | None
"""A size as a network file states it; None: any."""

IMAGE_TYPES = frozenset({"float32", "float16", "float64", "uint8", "int8"})
"""Element types of an input that images can be cast to."""

_NOISE = re.compile(r"Exception from \S+:\d+:|Check '.*?' failed at \S+?:\d+:|FrontEnd API failed with \w+:")
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")


def check_file(model: ModelFile, formats: frozenset[str], runtime: str) -> None:
    """Check the file's format by suffix and content, before a runtime sees it.

    Runtimes try other formats, and print, when the content does not fit the suffix.

    Raises:
        UnsupportedModelError: `runtime` does not read files with this suffix.
        ModelError: the file is missing or empty, or holds something else.
    """
    suffix = model.path.suffix.lower()
    if suffix not in formats:
        raise UnsupportedModelError(
            f"model {model.name}: {runtime} does not read {suffix or 'files without a suffix'}",
            f"it reads {', '.join(sorted(formats))}",
        )
    try:
        with model.path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ModelError(f"model {model.name}: {(error.strerror or 'cannot be read').lower()}") from error
    if not head:
        raise ModelError(f"model {model.name}: the file is empty", "fetch or export it again")
    if not _looks_right(suffix, head):
        raise ModelError(
            f"model {model.name}: the content is not that of a {suffix} file",
            "check its source, and export it again",
        )


def _looks_right(suffix: str, head: bytes) -> bool:
    match suffix:
        case ".tflite":
            return head[4:8] == b"TFL3"
        case ".xml":
            return b"<net" in head
        case ".pb":
            return head[0] == 0x0A  # GraphDef.node; text graphs are not read
        case _:
            return True


def file_mib(path: Path) -> float:
    """Return the size of a network on disk, MiB, its separate weights included."""
    weights = [path.with_suffix(s) for s in (".bin", ".pdiparams") if path.suffix in (".xml", ".pdmodel")]
    return sum(p.stat().st_size for p in (path, *weights) if p.exists()) / 2**20


def check_shape(model: ModelFile, stated: Sequence[Dim]) -> None:
    """Check that a network whose file states the input shape `stated` takes images of ``model.input_shape``.

    The batch, the first axis, may differ.

    Raises:
        ModelError: it does not.
    """
    wanted = model.input_shape
    fits = len(stated) == len(wanted) and all(s is None or s == w for s, w in zip(stated[1:], wanted[1:], strict=True))
    if not fits:
        raise ModelError(
            f"model {model.name} takes {shape_text(stated)}, not {shape_text(wanted)}",
            "correct the size, color and layout of the node's input in the group file",
        )


def check_type(model: ModelFile, element: DTypeLike) -> None:
    """Check that images can be cast to the network's element type.

    Raises:
        UnsupportedModelError: they cannot.
    """
    name = np.dtype(element).name
    if name not in IMAGE_TYPES:
        raise UnsupportedModelError(f"model {model.name} takes {name}, not images")


def one_input(model: ModelFile, names: Sequence[str]) -> None:
    """Check that the network has exactly one real input.

    Raises:
        UnsupportedModelError: it has another number.
    """
    if len(names) != 1:
        listed = f": {', '.join(names)}" if names else ""
        raise UnsupportedModelError(
            f"model {model.name} has {len(names)} inputs{listed}", "HAMS runs networks with one image input"
        )


def shape_text(shape: Sequence[Dim]) -> str:
    """Write a shape as ``1×3×?×?``."""
    return "×".join("?" if size is None else str(size) for size in shape) or "a scalar"


def one_line(error: BaseException, path: Path | None = None) -> str:
    """Return a runtime's error text without its source positions, line breaks and the file's path."""
    text = _CODE.sub("", _NOISE.sub(" ", str(error)))
    if path is not None:
        text = text.replace(f"Load model from {path} failed:", "").replace(str(path), path.name)
    text = " ".join(text.split())
    return (text[:300] + "…" if len(text) > 300 else text) or type(error).__name__
