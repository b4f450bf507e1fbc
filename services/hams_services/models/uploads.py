"""Networks that people upload: each has a name, and its files are in the broker's store under their digests.

``model: uploaded:NAME`` names one in a group file. An upload of the same name replaces it; groups that are deployed
keep the files that they were deployed with.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from hams_shared.bus.model_store import ModelStore
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError, ModelError, NotFoundError
from hams_shared.group.findings import NAME_PATTERN
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.base import Wire
from hams_shared.wire.messages.group import ModelRef
from hams_shared.wire.variants import model_ref

UPLOADED = "uploaded:"
SUFFIXES = (".onnx", ".xml", ".tflite")
"""Of networks; an ``.xml`` comes with its ``.bin``."""
DATA = (".data", "_data")
"""Ends of the names of files that hold weights of an ONNX file, as exporters write them."""
PLAIN = "plain.onnx"
"""An uploaded ONNX file as one file."""
XML_BYTES = 64 << 20
"""Largest ``.xml`` of an IR: it holds no weights."""


class UploadRecord(Wire):
    """KV ``uploads/<name>``: an uploaded network."""

    ref: ModelRef
    inputs: dict[str, str] = Field({}, description="name → shape")
    outputs: dict[str, str] = Field({}, description="name → shape")
    uploaded_at: float = Field(description="Unix time, s")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(part.size for part in self.ref.parts)


def checked_name(file: str) -> tuple[str, str]:
    """Return name and suffix for an uploaded file. Raises BadInputError: it is no network file, or the name is none."""
    name, dot, suffix = file.rpartition(".")
    if f".{suffix.lower()}" not in (*SUFFIXES, ".bin") or not dot:
        raise BadInputError(
            f"{file[:100]!r} is no network file by its name", "one of .onnx, .tflite, or .xml with its .bin"
        )
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower())
    if "/" in file or "\\" in file or ".." in file or not re.fullmatch(NAME_PATTERN, plain):
        raise BadInputError(
            f"{file[:100]!r} gives no name for the network",
            "letters, digits, - and _, a letter first, 48 at most",
        )
    return plain, f".{suffix.lower()}"


def data_name(file: str) -> str | None:
    """Return the name of a file that holds weights of an ONNX file; None: it does not. Raises BadInputError."""
    if not file.endswith(DATA):
        return None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", file) or ".." in file:
        raise BadInputError(f"{file[:100]!r} is no name for weights", "letters, digits, -, _ and dots")
    return file


def inspect(path: str) -> dict[str, dict[str, str]]:
    """Return inputs and outputs of the network in `path` with their shapes; meant for a child process.

    An ONNX file with its weights in other files, or of another form than agents read, is written anew as one file,
    :data:`PLAIN` in the same folder.

    Raises:
        ModelError: it cannot be read.
    """
    import openvino

    file = Path(path)
    if file.suffix == ".onnx":
        from hams_services.models.onnx_files import parse_onnx, simplify

        model, joined = parse_onnx(file.read_bytes(), file)  # names what is wrong: no ONNX, weights that are not there
        if simplify(model) or joined:
            path = str(file.with_name(PLAIN))
            Path(path).write_bytes(model.SerializeToString(deterministic=True))
    try:
        network = openvino.Core().read_model(path)
    except Exception as error:  # OpenVINO has many kinds
        text = " ".join(str(error).split())
        raise ModelError(f"{file.suffix} file cannot be read: {text[-300:]}", "is it whole? export it again") from None
    return {
        "inputs": {
            one.any_name if one.names else str(i): str(one.partial_shape) for i, one in enumerate(network.inputs)
        },
        "outputs": {
            one.any_name if one.names else str(i): str(one.partial_shape) for i, one in enumerate(network.outputs)
        },
    }


async def keep(
    bus: Bus, name: str, files: Sequence[tuple[str, bytes]], shapes: dict[str, dict[str, str]]
) -> UploadRecord:
    """Store a network that was inspected, under `name`."""
    ref = model_ref(name, list(files))
    store = await bus.objects(subjects.MODEL_STORE)
    for part, (_, content) in zip(ref.parts, files, strict=True):
        await store.put(part.digest, content)
    record = UploadRecord(ref=ref, inputs=shapes["inputs"], outputs=shapes["outputs"], uploaded_at=time.time())
    await (await bus.kv(subjects.bucket(subjects.UPLOADS))).put(name, codec.encode(record))
    return record


async def uploads(bus: Bus) -> dict[str, UploadRecord]:
    """Return all by name."""
    entries = await (await bus.kv(subjects.bucket(subjects.UPLOADS))).entries()
    found = {name: codec.decode(UploadRecord, one.value) for name, one in entries.items() if one.value is not None}
    return dict(sorted(found.items()))


async def remove(bus: Bus, name: str) -> None:
    """Forget a name; the files stay in the store, where deployed groups may use them. Raises NotFoundError."""
    await _record(bus, name)
    await (await bus.kv(subjects.bucket(subjects.UPLOADS))).delete(name)


async def pulled(bus: Bus, name: str, cache: Path) -> Path:
    """Return the main file of an uploaded network, pulled into `cache`. Raises NotFoundError, DigestError."""
    record = await _record(bus, name)
    return await ModelStore(await bus.objects(subjects.MODEL_STORE), cache / "models").path(record.ref)


async def _record(bus: Bus, name: str) -> UploadRecord:
    if not re.fullmatch(NAME_PATTERN, name):
        raise BadInputError(f"{UPLOADED}{name[:100]}: not a name", "as the page lists them")
    entry = await (await bus.kv(subjects.bucket(subjects.UPLOADS))).get(name)
    if entry is None or entry.value is None:
        known = ", ".join(await uploads(bus)) or "none"
        raise NotFoundError(f"no network {name} was uploaded", f"there are: {known}")
    return codec.decode(UploadRecord, entry.value)
