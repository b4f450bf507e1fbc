"""A network camera or server that speaks RTSP. FFmpeg does the work, inside OpenCV; we say why it could not."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import cv2

from hams_services.pipeline.sources.base import OPEN_S, READ_S, grab, rate
from hams_shared.errors import SourceError
from hams_shared.frames import Pixels
from hams_shared.source_kind import shown

# Packets over TCP are neither lost nor out of order, and pass firewalls; FFmpeg's own default is UDP.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

PORT = 554
DECODERS = 2
"""Threads that decode one stream; each beyond the first delays it by a frame."""


class Rtsp:
    """A stream that is being received."""

    live = True

    def __init__(self, url: str) -> None:
        self._name = shown(url)
        options = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(OPEN_S * 1e3),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(READ_S * 1e3),
            cv2.CAP_PROP_N_THREADS,
            DECODERS,
        ]
        self._capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self._name}: {why_not(url)}")
        self.fps = rate(self._capture)

    def read(self, into: Pixels | None = None) -> Pixels | None:
        """Next frame; see :class:`Source`."""
        image = grab(self._capture, into)
        if image is None:
            raise SourceError(f"{self._name}: the stream broke off or was silent for {READ_S:g} s")
        return image

    def rewind(self) -> None:
        """A live source has no beginning."""
        raise SourceError(f"{self._name}: a live source cannot start over")

    def close(self) -> None:
        """End the session."""
        self._capture.release()


def why_not(url: str, timeout: float = 2.0) -> str:
    """Say why `url` could not be opened, by asking its server the first question that a player asks."""
    parts = urlsplit(url)
    encrypted = parts.scheme.lower() == "rtsps"
    address = (parts.hostname or "", parts.port or (322 if encrypted else PORT))
    bare = shown(url)
    try:
        with socket.create_connection(address, timeout) as link:
            if encrypted:
                return f"no RTSP over TLS with {address[0]}:{address[1]}"
            link.settimeout(timeout)
            link.sendall(f"DESCRIBE {bare} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
            words = link.recv(256).decode("latin-1").split("\r\n")[0].split(None, 2)
    except TimeoutError:
        return f"no answer from {address[0]}:{address[1]} within {timeout:g} s"
    except OSError as error:
        return f"cannot reach {address[0]}:{address[1]}: {error.strerror or error}"
    if len(words) < 2 or not words[0].startswith("RTSP/"):
        return f"{address[0]}:{address[1]} does not speak RTSP"
    match words[1]:
        case "401":
            return "401 Unauthorized: give user and password as rtsp://USER:PASSWORD@HOST/PATH, or check them"
        case "404" | "454":
            return f"{words[1]} {words[-1]}: the server has no such path"
        case "200":
            return "the server answers, but sends no video that can be decoded"
    return " ".join(words[1:])
