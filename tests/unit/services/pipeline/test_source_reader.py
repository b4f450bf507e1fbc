"""Sources in their threads, and errors of those that cannot be opened; all servers are real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from hams_services.pipeline.sources import base as module
from hams_services.pipeline.sources.base import Reader
from hams_services.pipeline.sources.files import Video
from hams_services.pipeline.sources.mjpeg import MAX_BAD, Mjpeg
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.rtsp import why_not
from hams_shared.errors import SourceError
from hams_shared.group.camera_url import parse


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that answers each connection with the next of `answers` and hangs up; yields HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                link, _ = server.accept()
                with link:
                    link.recv(4096)
                    link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"RTSP/1.0 404 Stream Not Found\r\nCSeq: 1\r\n\r\n", "404 Stream Not Found"),
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", "user and password"),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "no video that can be decoded"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak RTSP"),
        (b"", "does not speak RTSP"),
    ],
)
def test_why_a_server_gives_no_video(answer: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hams_services.pipeline.sources.rtsp.ASK_S", 30.0)
    with answering(answer) as address:
        assert reason in why_not(parse(f"rtsp://{address}/live"))


def test_why_there_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert "Connection refused" in why_not(parse(f"rtsp://{address}/live"))
    with pytest.raises(SourceError, match=f"http://{address}/ cannot be opened: Connection refused"):
        Mjpeg(f"http://{address}/").read()
    assert "cannot reach" in why_not(parse("rtsp://no-such-host.invalid/live"))
    doubtful = why_not(parse("rtsp://user.invalid:12/34@host/live"))  # a password with a slash, as far as we can tell
    assert "write / as %2F" in doubtful
    assert "12" not in doubtful


def jpeg(value: int) -> bytes:
    data: bytes = cv2.imencode(".jpg", np.full((16, 16, 3), value, np.uint8))[1].tobytes()
    return data


def multipart(*parts: bytes) -> bytes:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
    return head + b"".join(b"--b\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(part), part) for part in parts)


def test_one_damaged_picture_is_passed_over_and_many_are_not() -> None:
    with answering(multipart(jpeg(50), b"damaged", jpeg(60)), multipart(*[b"no picture"] * MAX_BAD)) as address:
        source = Mjpeg(f"http://{address}/")
        images = [source.read(), source.read()]
        assert [round(float(i.mean())) for i in images if i is not None] == [50, 60]
        with pytest.raises(SourceError, match="ended"):
            source.read()
        source.close()
        with pytest.raises(SourceError, match="not an image"):
            Mjpeg(f"http://{address}/").read()


async def test_a_call_that_hangs_holds_up_only_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.2)
    begun, hung, closed = threading.Event(), threading.Event(), threading.Event()

    class Hanging(Video):
        def __init__(self) -> None: ...

        def read(self, into: object = None) -> None:
            begun.set()
            hung.wait(30)

        def close(self) -> None:
            closed.set()

    reader = Reader("test")
    await reader.open(Hanging)
    reading = asyncio.create_task(reader.read())
    assert await asyncio.to_thread(begun.wait, 10)
    reading.cancel()
    start = asyncio.get_running_loop().time()
    await reader.stop()
    assert 0.15 <= asyncio.get_running_loop().time() - start < 25
    assert not closed.is_set()
    hung.set()  # at last
    assert await asyncio.to_thread(closed.wait, 10)  # it is closed all the same
    await reader.stop()


def movie(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    return path


async def test_a_truncated_video_gives_all_it_has_and_then_an_error(tmp_path: Path) -> None:
    whole = movie(tmp_path / "whole.avi", 100)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reader = Reader("test")
    frames = 0
    try:
        source = await reader.open(lambda: open_source(str(cut)))
        assert source.fps == 25
        with pytest.raises(SourceError, match=r"truncated or corrupt: it ends after \d+ of \d+ frames"):
            while (await reader.read()) is not None:
                frames += 1
        assert 30 < frames < 70
        await reader.open(lambda: open_source(str(whole)))  # closes the one before
        count = 0
        while (await reader.read()) is not None:
            count += 1
        assert count == 100
        await reader.rewind()
        assert await reader.read() is not None
    finally:
        await reader.stop()
