"""api/uploads: networks that people bring. api/still: a picture to draw on."""

from __future__ import annotations

import asyncio
import shutil
import struct
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from hams_services.models.uploads import PLAIN, XML_BYTES, checked_name, data_name, keep, remove
from hams_services.web.api_deploy import TEXT, read_spec
from hams_services.web.sandbox import inspected
from hams_services.web.site import Endpoint, Site, actor_of, answer, session_of, taken
from hams_shared.bus.ask import pipeline_view
from hams_shared.bus.audit import Audit
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError, HamsError, ModelError, NotFoundError, TooLargeError, from_wire
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import Still, StillRequest

MOST_FILES = 16
"""Files of one network."""
STILL_S, LIVE_S, ASK_S = 25.0, 3.0, 5.0
"""Deadlines: of a picture from a source, from a running stream, and of the pipeline's status, s."""


async def upload(request: Request, site: Site) -> Response:
    """Take one network as a form's files: an ``.onnx`` with the files of its weights if it has any, a ``.tflite``, or
    an ``.xml`` with its ``.bin``."""
    with site.work.taken(), tempfile.TemporaryDirectory(prefix="hams-upload-") as folder:
        name, main, files = await _received(request, Path(folder), site.options.upload_mib << 20)
        shapes = await inspected(main)
        plain = main.with_name(PLAIN)
        if plain.exists():
            files = [plain]
        contents = [(path.suffix, await asyncio.to_thread(path.read_bytes)) for path in files]
        bus = site.bus_of(session_of(request))
        record = await keep(bus, name, contents, shapes)
    await Audit(bus, actor_of(request)).tell("upload", name, f"network {record.ref.digest[:12]} uploaded")
    return answer(
        {"name": name, "source": f"uploaded:{name}", "size": record.size, "digest": record.ref.digest, **shapes}
    )


async def forget(request: Request, site: Site) -> Response:
    """Forget the name of an uploaded network."""
    name = str(request.path_params["name"])
    bus = site.bus_of(session_of(request))
    await remove(bus, name)
    await Audit(bus, actor_of(request)).tell("upload", name, "network forgotten")
    return answer({"removed": name})


async def _received(request: Request, folder: Path, limit: int) -> tuple[str, Path, list[Path]]:
    """Write the files of a form into `folder`; return the network's name, its main file, and all files."""

    async def bounded() -> AsyncGenerator[bytes, None]:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise TooLargeError(
                    f"the network is larger than {limit >> 20} MiB", "hams-web --upload-mib allows more"
                )
            yield chunk

    if "multipart/form-data" not in request.headers.get("content-type", ""):
        raise BadInputError("an upload is a form with files")
    try:
        form = await MultiPartParser(request.headers, bounded(), max_files=MOST_FILES, max_fields=0).parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise BadInputError(f"the upload is not understood: {error}", "one network at a time") from None
    try:
        found: dict[str, tuple[str, Path]] = {}
        for _, one in form.multi_items():
            if not isinstance(one, UploadFile):
                continue
            if data := data_name(one.filename or ""):
                with (folder / data).open("wb") as target:
                    await asyncio.to_thread(shutil.copyfileobj, one.file, target, 1 << 20)
                continue
            name, suffix = checked_name(one.filename or "")
            if suffix in found:
                raise BadInputError("an upload is one network", "one after another")
            path = folder / f"model{suffix}"
            with path.open("wb") as target:
                await asyncio.to_thread(shutil.copyfileobj, one.file, target, 1 << 20)
            found[suffix] = (name, path)
    finally:
        await form.close()
    return _whole(found)


def _whole(found: dict[str, tuple[str, Path]]) -> tuple[str, Path, list[Path]]:
    """Check that the files are one network."""
    mains = [suffix for suffix in found if suffix != ".bin"]
    if len(mains) != 1:
        raise BadInputError(
            "an upload is one network" if found else "the form has no file",
            "one of .onnx, .tflite, or .xml with its .bin",
        )
    suffix = mains[0]
    name, main = found[suffix]
    if suffix == ".xml" and ".bin" not in found:
        raise ModelError(f"{name}.xml needs its weights {name}.bin", "choose both files at once")
    if suffix != ".xml" and ".bin" in found:
        raise BadInputError(f"{suffix} files have no .bin", "leave it out")
    if suffix == ".xml" and main.stat().st_size > XML_BYTES:
        raise TooLargeError(f"{name}.xml is larger than {XML_BYTES >> 20} MiB")
    for path in [main, *([found[".bin"][1]] if suffix == ".xml" else [])]:
        if not path.stat().st_size:
            raise ModelError(f"{name}{path.suffix} is empty", "export it again")
    return name, main, [main, *([found[".bin"][1]] if suffix == ".xml" else [])]


class StillOf(BaseModel):
    """A stream of a group file."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=TEXT)
    stream: str = Field(max_length=48)


async def still(request: Request, site: Site) -> Response:
    """Answer a picture of a stream of a group file, JPEG: of the running stream, else of its source."""
    asked = await taken(request, StillOf, 4 * TEXT)
    spec = await read_spec(request, site, asked.text)
    stream = spec.streams.get(asked.stream)
    if stream is None:
        raise NotFoundError(f"the group has no stream {asked.stream}", f"it has {', '.join(spec.streams) or 'none'}")
    bus = site.bus_of(session_of(request))
    jpeg = await _live(site, spec.name, asked.stream)
    if jpeg is None:
        jpeg = await _of_source(bus, stream)
    return Response(jpeg, 200, {"Cache-Control": "no-store"}, "image/jpeg")


async def _live(site: Site, group: str, stream: str) -> bytes | None:
    """Return a picture of a stream that plays: its camera may allow one connection only."""
    try:
        view = await pipeline_view(site.bus, timeout=ASK_S)
    except HamsError:
        return None
    if not any((one.group, one.stream, one.state) == (group, stream, "playing") for one in view.streams):
        return None
    async with aclosing(site.pictures.viewer([(group, stream)])) as records:
        try:
            async with asyncio.timeout(LIVE_S):
                record = await anext(records)
        except (TimeoutError, StopAsyncIteration):
            return None
    head, size = struct.unpack_from(">II", record)
    return record[8 + head : 8 + head + size] or None


async def _of_source(bus: Bus, stream: StreamSpec) -> bytes:
    if stream.source == "push":
        raise BadInputError("applications push the frames of this stream: it has no picture yet", "deploy it first")
    request = codec.encode(StillRequest(stream=stream))
    try:
        reply = await bus.request(subjects.still(), request, timeout=STILL_S)
    except NotFoundError:
        raise NotFoundError("no pipeline answers", "is it running?") from None
    found = codec.decode(Still, reply.data)
    if found.error is not None:
        raise from_wire(found.error.model_dump())
    return found.jpeg


ENDPOINTS = (
    Endpoint("POST", "uploads", "change", upload),
    Endpoint("DELETE", "uploads/{name}", "change", forget),
    Endpoint("POST", "still", "change", still),
)
