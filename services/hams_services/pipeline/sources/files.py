"""Video files."""

from __future__ import annotations

from pathlib import Path

from hams_services.pipeline.sources.base import Picture
from hams_services.pipeline.sources.hardware import Hardware
from hams_services.pipeline.sources.media import Media, MediaOptions
from hams_services.pipeline.sources.truncated import container, cut_off
from hams_shared.errors import SourceError
from hams_shared.wire.frames import Pixels


class Video(Media):
    """A video file; each frame has its time in the file."""

    def __init__(self, path: Path, *, keyframes: bool = False, hardware: Hardware = "none") -> None:
        self._path = path
        if path.stat().st_size == 0:
            raise SourceError(f"{path} is empty: it has 0 bytes", "was it copied whole?")
        name = str(path)
        super().__init__(MediaOptions(name, f"file:{path}", endless=False, keyframes=keyframes, hardware=hardware))

    def read(self, into: Pixels | None = None) -> Picture | None:
        """Next frame; see :class:`Source`."""
        picture = super().read(into)
        if picture is None:
            self._check_end()
        elif self.damaged:
            self.note = f"{self.damaged} of {self.packets} packets are damaged; what could not be decoded was skipped"
        return picture

    def _check_end(self) -> None:
        """Raise SourceError if the file is certainly truncated.

        Its own count of frames alone proves nothing, but in MP4, which lists each: other containers estimate it from
        the sound, or include empty chunks.
        """
        if self.frames == 0:
            raise SourceError(f"{self._path} holds no frame that can be decoded", self.failure)
        listed = self._stream.frames if container(self._path) == "mp4" else 0
        why = cut_off(self._path) or self.failure
        if why or self.packets < listed:
            of = f" of {listed}" if self.frames < listed else ""
            raise SourceError(
                f"{self._path} is truncated or corrupt: it ends after {self.frames}{of} frames{why and ': '}{why}"
            )
