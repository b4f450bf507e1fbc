"""Recognises the format of a network file by its content, not its name."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from hams_shared.errors import ModelError, UnsupportedModelError

MAX_BYTES = 2 << 30
"""Larger files are refused; protobuf itself ends there."""


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
            file.seek(0)
            known = _by_magic(path, head)
            return known if known is not None else _protobuf(path.name, file.read())
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


def _protobuf(name: str, data: bytes) -> Format:
    """Distinguish ONNX, TensorFlow and Paddle by the fields of the outermost message."""
    try:
        fields = {field.field_number: field for field in UnknownFieldSet(Empty.FromString(data))}
    except DecodeError as error:
        if data[0] in (0x08, 0x0A):  # as all of them start
            raise ModelError(f"{name} is damaged or cut short: {error}", "fetch it again") from None
        raise UnsupportedModelError(f"{name} is of no known format", _KNOWN) from None
    # ModelProto: 1 version, 7 graph, 8 operator sets. SavedModel: 1 schema version, 2 graphs, nothing else.
    if 7 in fields and (8 in fields or data[0] == 0x08):
        return Format.ONNX
    if data[0] == 0x08 and set(fields) <= {1, 2} and fields[1].data == 1:
        return Format.TF_SAVED_MODEL
    if data[0] == 0x0A and (inner := bytes(fields[1].data)[:1]):
        if inner == b"\x0a":  # GraphDef.node → NodeDef.name
            return Format.TF_GRAPH
        if inner == b"\x08":  # ProgramDesc.blocks → BlockDesc.idx
            return Format.PADDLE
    raise UnsupportedModelError(f"{name} is of no known format", _KNOWN)


_KNOWN = f"known: {', '.join(Format)}"
