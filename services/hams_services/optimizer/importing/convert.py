"""Converts a file of any known format to the formats that devices read, in a job's process.

Files may be hostile. The process has limits and can write to its own folder only, and OpenVINO checks what it reads; so
only what could mislead us is checked here: external files, zip files, and the shapes of the network that was read.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import openvino as ov
from openvino.frontend import FrontEndManager, OpConversionFailure

from hams_services.models import openvino_ir
from hams_services.models.onnx_dims import normalize
from hams_services.models.onnx_files import external_files, read_onnx, simplify
from hams_services.optimizer.importing.formats import Format, Source, recognise
from hams_services.optimizer.importing.to_onnx import to_onnx
from hams_services.optimizer.sandbox.reason import reason
from hams_shared.errors import HamsError, ModelError, UnsupportedModelError
from hams_shared.runtime.openvino_errors import unknown_operators
from hams_shared.runtime.openvino_tflite import real_outputs
from hams_shared.runtime.zips import check_zip, unpack

MAX_OPERATORS = 200_000
MAX_DIM, MAX_ELEMENTS = 1 << 24, 1 << 28
"""Of one tensor; 2²⁸ elements are 1 GiB of float32."""


def import_file(source: str, out: str, shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Convert `source` into the folder `out`.

    `shape` is that of one image, batch first; formats that do not state it (TorchScript) need it. Returns ``format``,
    ``digest`` of the source, ``files`` (format → paths, main one first), ``skipped`` (format → why) and ``tools``.

    Raises:
        ModelError: the file is damaged, or larger than any network for pictures.
        UnsupportedModelError: its format or an operator is not known, or a package is missing.
    """
    path, folder = Path(source), Path(out)
    kind = recognise(path)
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / ".work"
    work.mkdir()
    try:
        given = Source(path, kind, work, tuple(shape) if shape else None)
        files = _import(given, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "format": str(kind),
        "digest": source_digest(path, kind),
        "files": {name: [str(part) for part in parts] for name, parts in files.items()},
        "skipped": given.skipped,
        "tools": given.tools,
    }


def source_digest(path: Path, kind: Format) -> str:
    """Return the SHA-256 of the source: of its file, or of the digests of its files, concatenated."""
    parts = [path]
    if kind is Format.IR:
        parts.append(_companion(path, ".bin"))
    elif kind is Format.PADDLE:
        parts.append(_companion(path, ".pdiparams"))
    elif kind is Format.ONNX:
        parts += external_files(path)
    elif path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
    digests = [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _import(source: Source, folder: Path) -> dict[str, list[Path]]:
    """Return the files by format."""
    source.tools["openvino"] = ov.__version__.partition("-")[0]
    graph, data = _read(source)
    _check_graph(graph)
    openvino_ir.rename(graph, "model")
    openvino_ir.name_outputs(graph)
    openvino_ir.forget_inner_names(graph)
    files = {"openvino": openvino_ir.save(graph, folder / "model.xml")}
    if data is None and "onnx" not in source.skipped:
        data = _convert(graph, source)
    if data is not None:
        (folder / "model.onnx").write_bytes(data)
        files["onnx"] = [folder / "model.onnx"]
    return files


def _read(source: Source) -> tuple[Any, bytes | None]:
    """Return the network for OpenVINO, and as ONNX where the source has it."""
    path, work = source.path, source.work
    match source.format:
        case Format.ONNX:
            model = read_onnx(path)
            simplify(model)
            normalize(model, source.shape)
            data = model.SerializeToString(deterministic=True)
            source.tools["onnx"] = onnx.__version__
            (work / "model.onnx").write_bytes(data)
            return _frontend("onnx", work / "model.onnx"), data
        case Format.TORCHSCRIPT | Format.TORCH_EXPORT:
            check_zip(path)
            return _torch(source)
        case Format.IR:
            copy = _copied(path, work / "model.xml", ".bin")
            return _try(lambda: ov.Core().read_model(copy)), None
        case Format.PADDLE:
            suffix = ".json" if path.read_bytes()[:1] == b"{" else ".pdmodel"
            return _frontend("paddle", _copied(path, work / f"model{suffix}", ".pdiparams")), None
        case Format.TF_GRAPH:
            return _frontend("tf", _copied(path, work / "model.pb")), None
        case Format.TF_SAVED_MODEL:
            return _frontend("tf", _saved_model(path, work)), None
    graph = _frontend("tflite", path)
    real_outputs(graph)
    return graph, None


def _frontend(framework: str, path: Path) -> Any:
    """Read with one frontend: OpenVINO would try the others too, and print."""
    frontend = FrontEndManager().load_by_framework(framework)
    return _try(lambda: frontend.convert(frontend.load(str(path))))


def _try(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except OpConversionFailure as error:
        known = unknown_operators(error) or f"OpenVINO cannot convert it: {reason(error, 300)}"
        raise UnsupportedModelError(known) from error
    except HamsError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # OpenVINO has many kinds
        raise ModelError(f"OpenVINO cannot read it: {reason(error, 300)}", "is the file whole?") from error


def _copied(path: Path, copy: Path, weights: str = "") -> Path:
    """Copy a file, and the file beside it with the suffix `weights`, to names by which OpenVINO finds them."""
    if weights:
        shutil.copyfile(_companion(path, weights), copy.with_suffix(weights))
    shutil.copyfile(path, copy)
    return copy


def _companion(path: Path, suffix: str) -> Path:
    weights = path.with_suffix(suffix)
    if not weights.is_file():
        raise ModelError(f"{path.name} needs its weights {weights.name} beside it")
    return weights


def _saved_model(path: Path, work: Path) -> Path:
    """Return a copy of a SavedModel's folder, without links; a zip file is unpacked."""
    target = work / "saved"
    if path.is_dir():
        for part in path.rglob("*"):
            if part.is_symlink():
                raise ModelError(f"{path.name} has a link among its files: {part.relative_to(path)}")
        shutil.copytree(path, target)
        return target
    if path.suffix == ".pb" or path.read_bytes()[:2] != b"PK":
        raise ModelError(f"{path.name} is part of a SavedModel", "import the folder that it lies in")
    unpack(path, target)
    found = sorted(target.rglob("saved_model.pb"))
    return found[0].parent


def _convert(graph: Any, source: Source) -> bytes | None:
    try:
        model = to_onnx(graph, source.work, source.shape)
    except UnsupportedModelError as error:  # the IR exists all the same
        source.skipped["onnx"] = str(error)
        return None
    source.tools["onnxifier"] = version("onnxifier")
    normalize(model, source.shape)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _torch(source: Source) -> tuple[Any, bytes | None]:
    try:
        from hams_services.optimizer.importing import torch_file
    except ImportError as error:
        raise UnsupportedModelError(
            f"{source.path.name} is of PyTorch, which is not installed ({error.name})", "pip install 'hams[train]'"
        ) from error
    return torch_file.read(source)


def _check_graph(graph: Any) -> None:
    """Refuse a network that no device could run. Raises ModelError."""
    ops = graph.get_ops()
    if len(ops) > MAX_OPERATORS:
        raise ModelError(f"the network has {len(ops)} operators, more than {MAX_OPERATORS}")
    for op in ops:
        for port in op.outputs():
            shape = port.get_partial_shape()
            sizes = [d.get_length() for d in shape if d.is_static] if shape.rank.is_static else []
            if max(sizes, default=0) > MAX_DIM or math.prod(max(size, 1) for size in sizes) > MAX_ELEMENTS:
                name = op.get_friendly_name()[:80]
                raise ModelError(
                    f"{name!r} has the shape {shape}: more than {MAX_DIM} on an axis, or {MAX_ELEMENTS} in all"
                )
    if not graph.get_parameters() or not graph.outputs:
        raise ModelError("the network has no input or no output")
