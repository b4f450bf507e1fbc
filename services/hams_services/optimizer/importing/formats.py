"""Recognises the format of a network file by its content, not its name."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hams_shared.errors import ModelError, UnsupportedModelError

MAX_BYTES = 2 << 30
"""Larger files are refused, as by protobuf itself."""


class Format(StrEnum):
    """A format that can be imported."""

    ONNX = "onnx"
    IR = "openvino-ir"
    TFLITE = "tflite"
    TF_GRAPH = "tf-graph"
    TF_SAVED_MODEL = "tf-saved-model"
    PADDLE = "paddle"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"


@dataclass(frozen=True)
class Source:
    """A file that is being imported, and what is known of the import so far."""

    path: Path
    format: Format
    work: Path
    """Folder for copies; removed at the end."""
    shape: tuple[int, ...] | None
    """Of one image, batch first; None: the file states it."""
    tools: dict[str, str] = field(default_factory=dict)
    """Each tool that was used → its version."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Each format that could not be made → why."""


_EXPORT_IT = "export the network itself: torch.export.save, torch.jit.save or torch.onnx.export"


def recognise(path: Path) -> Format:
    """Return the format of the file or folder `path`.

    Raises:
        ModelError: it is missing, empty, too large, damaged, or weights without a network.
        UnsupportedModelError: it is of a format that is not imported.
    """
    try:
        if path.is_dir():
            return _folder(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
            if size > MAX_BYTES:
                raise ModelError(f"{path.name} has {size} bytes, more than {MAX_BYTES}", "is it a network?")
            if not head:
                raise ModelError(f"{path.name} is empty", "fetch or export it again")
            return _by_magic(path, head) or _protobuf(path.name, head)
    except OSError as error:
        raise ModelError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error


def _folder(path: Path) -> Format:
    if (path / "saved_model.pb").is_file():
        return Format.TF_SAVED_MODEL
    raise ModelError(
        f"{path.name} is a folder without saved_model.pb", "the only folder that is imported is a TensorFlow SavedModel"
    )


def _by_magic(path: Path, head: bytes) -> Format | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[4:8] == b"TFL3":
        return Format.TFLITE
    if text.startswith((b"<?xml", b"<net", b"<!")):
        if b"<net" in head or b"<!" in head:
            return Format.IR
        raise ModelError(f"{path.name} is XML, but no OpenVINO network", "it has no <net>")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    if head[0] == 0x80 and 2 <= head[1] <= 5:
        raise ModelError(f"{path.name} is a Python pickle, which is not loaded: it could run any program", _EXPORT_IT)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise UnsupportedModelError(f"{path.name} is a Keras HDF5 file", "export it: model.export(FOLDER) in Keras")
    if text.startswith(b"{") and b'"magic"' in head and b"pir" in head:
        return Format.PADDLE  # PaddlePaddle 3 writes the program as JSON
    return None


def _zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path.name} is a damaged zip file: {error}", "fetch it again") from None
    inner = {name.partition("/")[2] for name in names}
    if any(
        name == "archive_format" or name.startswith("models/") for name in inner
    ) or "serialized_exported_program.json" in {*names, *inner}:
        return Format.TORCH_EXPORT
    if any(name.startswith("code/") for name in inner) and "constants.pkl" in inner:
        return Format.TORCHSCRIPT
    if "data.pkl" in inner:
        raise ModelError(f"{path.name} holds weights of PyTorch, and not the network they belong to", _EXPORT_IT)
    if any(name == "saved_model.pb" or name.endswith("/saved_model.pb") for name in names):
        return Format.TF_SAVED_MODEL
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        raise UnsupportedModelError(f"{path.name} is a Keras file", "export it: model.export(FOLDER) in Keras")
    raise UnsupportedModelError(f"{path.name} is a zip file without a known network")


def _protobuf(name: str, head: bytes) -> Format:
    """Distinguish ONNX, TensorFlow and Paddle by the first field of the outermost message; writers keep the order."""
    # 0x08: field 1, a number. ModelProto.ir_version, which was 1 before ONNX 1.0; SavedModel.schema_version, always 1.
    if head[0] == 0x08 and len(head) > 2:
        return Format.TF_SAVED_MODEL if head[1:3] == b"\x01\x12" else Format.ONNX
    if head[0] == 0x0A:  # field 1, a message: its length, of up to ten bytes, and its own first field
        inner = head[1:].lstrip(_CONTINUED)[1:2]
        if inner == b"\x0a":  # GraphDef.node → NodeDef.name
            return Format.TF_GRAPH
        if inner == b"\x08":  # ProgramDesc.blocks → BlockDesc.idx
            return Format.PADDLE
    raise UnsupportedModelError(f"{name} is of no known format", f"known: {', '.join(Format)}")


_CONTINUED = bytes(range(0x80, 0x100))
"""Bytes of a number that goes on."""
