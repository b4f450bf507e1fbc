"""RTSP cameras and servers, by FFmpeg inside OpenCV, over TCP."""

from __future__ import annotations

import socket

import cv2

from hams_services.pipeline.sources.base import Source, check_capture, grab
from hams_shared.errors import SourceError
from hams_shared.group.camera_url import CameraUrl, parsed
from hams_shared.wire.frames import Pixels

OPEN_MS = 5000
READ_MS = 5000
"""Without a frame for this long the stream is lost, ms."""
ASK_S = 2.0
DECODERS = 2
"""Threads that decode one stream; each beyond the first delays it by a frame."""


class Rtsp(Source):
    """An RTSP stream."""

    endless = True
    fps: float | None = None

    def __init__(self, address: str) -> None:
        url = parsed(address)
        self._name = url.redacted
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPEN_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: READ_MS,
            cv2.CAP_PROP_N_THREADS: DECODERS,
        }
        flat = [int(number) for pair in settings.items() for number in pair]
        self._capture = cv2.VideoCapture(url.full, cv2.CAP_FFMPEG, flat)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self._name} cannot be opened: {why_not(url)}")
        check_capture(self._capture, self._name)

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        image = grab(self._capture, into)
        if image is None:
            raise SourceError(f"{self._name} sends no more frames")
        return image

    def rewind(self) -> None:
        """It has no beginning."""

    def close(self) -> None:
        """Disconnect."""
        self._capture.release()


def why_not(url: CameraUrl) -> str:
    """Return why `url` cannot be opened, which FFmpeg does not report: send a player's first request to its server."""
    where = f"{url.host}:{url.port or 554}"
    if url.doubtful:  # then the host may be a user and half of a password
        where = "its host; in user and password write / as %2F, ? as %3F, # as %23"
    try:
        with socket.create_connection((url.host.strip("[]"), url.port or 554), ASK_S) as link:
            link.settimeout(ASK_S)
            link.sendall(f"DESCRIBE {url.bare} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
            words = link.recv(256).decode("latin-1").split("\r\n")[0].split(None, 2)
    except TimeoutError:
        return f"no answer from {where} within {ASK_S:g} s"
    except (OSError, UnicodeError) as error:
        return f"cannot reach {where}: {getattr(error, 'strerror', None) or error}"
    if len(words) < 2 or not words[0].startswith("RTSP/"):
        return f"{where} does not speak RTSP" + (" in the clear" if url.scheme == "rtsps" else "")
    match words[1]:
        case "200":
            return "the server answers, but sends no video that can be decoded"
        case "401":
            return "401 Unauthorized: are user and password right (rtsp://USER:PASSWORD@HOST/PATH)?"
    return " ".join(words[1:])
