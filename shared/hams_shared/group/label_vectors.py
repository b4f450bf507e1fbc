"""Vectors of labels, as a text encoder gives them: read from a file, and the form in which they travel in a group.

``!embeddings FILE`` in a group file becomes ``{"labels": […], "size": D, "f16": base64}``: K×D half floats, row by row,
each vector of length 1. So they reach agents with the group, and no part has to find a file. A half float is exact to
1/2048, which changes a cosine by less than 0.001.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_shared.errors import BadInputError

MAX_FILE = 64 << 20
"""Bytes of a file, unpacked."""
MAX_VECTORS = 768 << 10
"""Bytes of half floats in a group: 768 labels of 512 numbers. Each part of HAMS reads the whole group."""
SUFFIXES = (".npz", ".json")

Vectors = NDArray[np.float32]


def read(path: Path) -> dict[str, Any]:
    """Return the vectors in a file, as they travel.

    ``.json``: label → numbers. ``.npz``: an array for each label, or ``labels`` (texts) and ``vectors`` (K×D). Several
    vectors of a label (several prompts), K×D, become their mean direction.

    Raises:
        BadInputError: there is no such file, it is none of these, or too large.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadInputError(f"{path.name} is neither .npz nor .json", "docs/models.md says how to make such a file")
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadInputError(f"{path.name} is larger than {MAX_FILE >> 20} MiB")
        found = _json(path.read_bytes()) if path.suffix.lower() == ".json" else _npz(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
    except (
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        EOFError,
        MemoryError,
        NotImplementedError,
        zipfile.BadZipFile,
    ) as error:
        raise BadInputError(
            f"{path.name} holds no vectors by label: {error}"[:300], "docs/models.md says how to make such a file"
        ) from None
    return pack(found)


def pack(vectors: Mapping[str, Any]) -> dict[str, Any]:
    """Return label → D numbers, or K×D of several prompts, as they travel. Raises BadInputError."""
    if len(vectors) < 2:
        raise BadInputError(f"{len(vectors)} labels: two are needed to choose between")
    units = [_unit(label, value) for label, value in vectors.items()]
    sizes = {len(one) for one in units}
    if len(sizes) > 1:
        raise BadInputError(f"vectors of {', '.join(map(str, sorted(sizes)))} numbers: all must have the same size")
    packed = np.stack(units).astype("<f2").tobytes()
    if len(packed) > MAX_VECTORS:
        most = MAX_VECTORS // (2 * sizes.pop())
        raise BadInputError(f"{len(units)} labels are too many: {most} vectors of this size fit into a group")
    return {"labels": list(vectors), "size": len(units[0]), "f16": base64.b64encode(packed).decode()}


def unpack(labels: int, size: int, f16: str) -> Vectors:
    """Return K×D vectors of length 1. Raises ValueError: the bytes are not `labels` × `size` finite half floats."""
    try:
        data = base64.b64decode(f16, validate=True)
    except binascii.Error as error:
        raise ValueError(f"f16 is not base64: {error}") from None
    if len(data) != 2 * labels * size:
        raise ValueError(f"f16 has {len(data)} bytes, {labels} vectors of {size} half floats have {2 * labels * size}")
    values = np.frombuffer(data, "<f2").reshape(labels, size).astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(values).all() or not lengths.all():
        raise ValueError("a vector is 0, or not finite")
    unit: Vectors = values / lengths
    return unit


def _json(data: bytes) -> dict[str, Any]:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("its JSON is not a map from labels to numbers")
    return found


def _npz(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE:
            raise ValueError(f"it unpacks to more than {MAX_FILE >> 20} MiB")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if arrays.keys() == {"labels", "vectors"}:
        labels = [str(label) for label in np.asarray(arrays["labels"]).ravel().tolist()]
        if arrays["vectors"].ndim < 2 or len(labels) != len(arrays["vectors"]) or len({*labels}) != len(labels):
            raise ValueError(f"{len(labels)} labels, and vectors {list(arrays['vectors'].shape)}")
        return dict(zip(labels, arrays["vectors"], strict=True))
    return arrays


def _unit(label: str, value: Any) -> Vectors:
    """Return the mean direction of D numbers, or of K×D. Raises BadInputError."""
    try:
        rows = np.atleast_2d(np.asarray(value, np.float32))
    except (ValueError, TypeError, OverflowError):
        rows = np.empty((0, 0), np.float32)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise BadInputError(f"label {label!r}: not a list of finite numbers")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    mean = (rows / np.where(lengths > 0, lengths, 1)).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise BadInputError(f"label {label!r}: its vector is 0")
    unit: Vectors = mean / length
    return unit
