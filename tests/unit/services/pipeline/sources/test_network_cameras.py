"""Network cameras: RTSP by every transport, Motion JPEG; all servers are real sockets."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from hams_services.pipeline.sources import media, network
from hams_shared.errors import SourceError
from support.media import STEPS, every, number_of, video
from support.rtsp_server import SIZE, RtspServer
from support.sources import Played, opened, played
from support.wait import PATIENCE

pytestmark = pytest.mark.timeout(120)

PASSWORD = "p/s?#@:% wörd"
CLOCK_S = 20.0
"""How exact a wall clock has to be here: the test may stand still for a while."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera on a shared machine opens late."""
    monkeypatch.setattr(network, "OPEN_S", network.OPEN_S * PATIENCE)
    monkeypatch.setattr(network, "ASK_S", network.ASK_S * PATIENCE)


def consecutive(found: Played) -> bool:
    """Whether no frame is missing."""
    return bool((np.diff(found.numbers) % STEPS == 1).all())


@pytest.mark.parametrize(("tls", "keys"), [(False, {}), (False, {"transport": "udp"}), (True, {})], ids=str)
def test_rtsp_by_every_transport(tls: bool, keys: dict[str, str]) -> None:
    fps, count = (10, 30) if keys else (100, 60)  # a receiver that is held up has room for little of UDP
    with RtspServer(tls=tls, fps=fps).start() as camera:
        source = opened(camera.url, **keys)
        assert source.endless
        assert source.fps is None
        found = played(source, count)
        source.close()
    assert found.error == ""
    assert consecutive(found)
    assert found.upright
    assert set(found.sizes) == {SIZE}
    assert found.times[1:] == pytest.approx([found.times[1] + n / fps for n in range(count - 1)])  # type: ignore[operator]
    assert source.damaged == 0
    assert source.decoder == "h264 320×240, software"


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_any_password_and_none_is_shown(auth: str, capfd: pytest.CaptureFixture[str]) -> None:
    with RtspServer(user="admin", password=PASSWORD, auth=auth).start() as camera:
        source = opened(camera.url.replace("//", f"//admin:{quote(PASSWORD, safe='')}@"))
        assert played(source, 3).error == ""
        source.close()
        with pytest.raises(SourceError, match="401 Unauthorized") as raised:
            opened(camera.url.replace("//", "//admin:wrong-secret@"))
        assert "wrong-secret" not in str(raised.value)
        assert "admin" not in str(raised.value)
        assert "USER:PASSWORD" in str(raised.value)  # what to do
        with pytest.raises(SourceError, match="401 Unauthorized"):
            opened(camera.url)
        assert "".join(capfd.readouterr()) == ""  # FFmpeg would log addresses


def test_a_password_as_it_is() -> None:
    with RtspServer(user="admin", password="a@b%c:d").start() as camera:
        source = opened(camera.url.replace("//", "//admin:a@b%c:d@"))
        assert played(source, 3).error == ""
        source.close()


@pytest.mark.parametrize(("offers", "wanted"), [("tcp", "udp"), ("udp", "tcp")])
def test_a_transport_that_the_camera_refuses_is_named(offers: str, wanted: str) -> None:
    with (
        RtspServer(transports=(offers,)).start() as camera,
        pytest.raises(SourceError, match=f"cannot be opened: .*transport: {offers}"),
    ):
        opened(camera.url, transport=wanted)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_that_is_silent_after_play_is_named(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 4
    monkeypatch.setattr(network, "OPEN_S", seconds)
    with (
        RtspServer(frames=0).start() as camera,
        pytest.raises(SourceError, match=f"{camera.url} cannot be opened: it sends no video within {seconds} s"),
    ):
        opened(camera.url, transport=transport)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_that_falls_silent_is_lost(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "READ_S", 5.0 if transport == "tcp" else 4.0)
    frames, fps = (60, 100) if transport == "tcp" else (30, 10)
    with RtspServer(frames=frames, fps=fps).start() as camera:
        source = opened(camera.url, transport=transport)
        found = played(source)
        assert len(found.numbers) in range(frames - 10, frames + 1)
        assert consecutive(found)
        assert f"{camera.url} is lost: no data in time" in found.error


def test_a_camera_that_sends_no_key_frames_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here they are 0.5 s apart. Nothing else would end the read: the camera is not silent."""
    monkeypatch.setattr(media, "PICTURE_S", 0.1)
    with RtspServer().start() as camera:
        found = played(opened(camera.url, decode={"every": "keyframe"}))
        assert f"{camera.url} is lost: for 0.1 s it has sent data, but no frame" in found.error


@pytest.mark.parametrize("way", ["freezes", "dies", "hangs up"])
def test_a_camera_that_goes_is_lost(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "READ_S", 4.0)
    with RtspServer(frames=60 if way == "hangs up" else None, hangs_up=way == "hangs up").start() as camera:
        source = opened(camera.url)
        assert len(played(source, 20).numbers) == 20
        if way != "hangs up":
            camera.freeze() if way == "freezes" else camera.kill()
        error = played(source).error
        assert f"{camera.url} is lost: " in error or f"{camera.url} has ended" in error


def test_the_size_changes_in_mid_stream() -> None:
    with RtspServer(sizes=((320, 240), (640, 360)), fps=100).start() as camera:
        source = opened(camera.url)
        found = played(source, 100)
        source.close()
    assert found.error == ""
    assert consecutive(found)
    assert set(found.sizes) == {(320, 240), (640, 360)}
    assert found.upright


def test_udp_that_loses_packets_goes_on_and_is_counted() -> None:
    with RtspServer(loss=0.03, sizes=((640, 360),), fps=100).start() as camera:
        source = opened(camera.url, transport="udp")
        found = played(source, 250)
        source.close()
    assert found.error == ""
    assert len(found.numbers) == 250
    assert not consecutive(found)
    assert source.damaged > 0


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
def test_captured_is_by_the_camera_s_clock(ahead: float) -> None:
    """Its reports (RTCP) map times of frames to its wall clock; whether that is right, is decided later."""
    with RtspServer(clock=ahead, fps=100).start() as camera:
        source = opened(camera.url)
        found = played(source, 100)
        source.close()
    late = found.captured[-50:]
    assert all(captured is not None and abs(captured - ahead - time.time()) < CLOCK_S for captured in late)
    steps = np.diff(np.array(late, float))
    assert np.median(steps) == pytest.approx(0.01, abs=0.001)


def agree(apart: list[int]) -> bool:
    """Whether all are the same, to a frame: half a frame's time may be rounded."""
    seen = set(apart)
    return len(seen) == 1 or seen in ({n, (n + 1) % STEPS} for n in seen)


def test_two_streams_of_a_camera_are_paired_by_its_clock() -> None:
    with RtspServer(sizes=((640, 360),)).start() as large, RtspServer().start() as small:
        source = opened(large.url, substream=small.url)
        apart: list[int] = []
        while len(apart) < 60 or (len(apart) < 500 and not agree(apart[-30:])):  # a server may be held up
            shot = source.read()
            assert shot is not None
            assert shot.reduced is not None
            assert (shot.pixels.shape, shot.reduced.shape) == ((360, 640, 3), (240, 320, 3))
            apart.append((number_of(shot.pixels) - number_of(shot.reduced)) % STEPS)
        source.close()
    assert agree(apart[-30:])


def test_without_reports_captured_is_unknown() -> None:
    with RtspServer(clock=None, fps=100).start() as camera:
        source = opened(camera.url)
        assert set(played(source, 50).captured) == {None}
        source.close()


def test_a_camera_on_and_off_a_hundred_times_leaves_nothing_behind() -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with RtspServer(frames=4, hangs_up=True, fps=200).start() as camera:
        numbers: list[int] = []
        before = (0, 0)
        for turn in range(100):
            found = played(opened(camera.url))
            assert "is lost" in found.error or "has ended" in found.error
            numbers += found.numbers
            if turn == 4:  # what is loaded once is loaded
                before = held()
        assert len(numbers) >= 300
        assert held() <= before or sum(held()) <= sum(before) + 2


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that answers each connection with the next of `answers`, the last one for ever; yields HOST:PORT."""
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    answer = left.pop(0) if len(left) > 1 else left[0]
                    link.recv(4096)
                    link.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"RTSP/1.0 404 Stream Not Found\r\nCSeq: 1\r\n\r\n", "404 Not Found"),
        (b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n", "401 Unauthorized"),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "no video that can be decoded"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak RTSP"),
        (b"", "does not speak RTSP"),
    ],
)
def test_why_a_server_gives_no_video(answer: bytes, reason: str) -> None:
    with answering(answer) as address, pytest.raises(SourceError, match=reason):
        opened(f"rtsp://{address}/live")


def test_why_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        """As a resolver that answers at once: here there may be one that does not."""
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for scheme in ("rtsp", "rtsps", "http", "https"):
        with pytest.raises(SourceError, match=f"{scheme}://{address}/ cannot be opened: .*Connection refused"):
            opened(f"{scheme}://{address}/")
        with pytest.raises(SourceError, match=r"cannot reach no-such-host\.invalid"):
            opened(f"{scheme}://no-such-host.invalid/live")
        for part, login in (("12", "user.invalid:12/34"), ("part", "user:p@part.invalid/34")):  # it may be a password
            with pytest.raises(SourceError, match="write @ as %40, / as %2F") as raised:
                opened(f"{scheme}://{login}@host/live")
            assert part not in str(raised.value)


def test_a_certificate_that_is_not_accepted_is_named() -> None:
    with (
        RtspServer(tls=True).start() as camera,
        pytest.raises(SourceError, match="its certificate is not accepted: self.signed certificate"),
    ):
        opened(camera.url.replace("rtsps:", "https:"))


def jpeg(value: int) -> bytes:
    data: bytes = cv2.imencode(".jpg", np.full((16, 16, 3), value, np.uint8))[1].tobytes()
    return data


def multipart(*parts: bytes, lengths: bool = True, kind: bytes = b"Content-Type: image/jpeg\r\n") -> bytes:
    """An answer of Motion JPEG."""
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
    made = (b"Content-Length: %d\r\n" % len(part) if lengths else b"" for part in parts)
    return head + b"".join(b"--b\r\n%s%s\r\n%s\r\n" % (kind, *pair) for pair in zip(made, parts, strict=True))


@pytest.mark.parametrize("lengths", [True, False])
def test_motion_jpeg_passes_over_a_damaged_picture_and_has_no_times(lengths: bool) -> None:
    values = [50, 60, 70, 80, 90]
    parts = [jpeg(value) for value in values]
    parts.insert(2, parts[2][: len(parts[2]) // 3])
    parts += [jpeg(200)] * 9  # at the end of the connection FFmpeg drops what it has not split yet
    with answering(multipart(*parts, lengths=lengths)) as address:
        source = opened(f"http://{address}/")
        seen = []
        with pytest.raises(SourceError, match=r"is lost|has ended"):
            while shot := source.read():
                seen.append(round(float(shot.pixels.mean())))
                assert shot.at is None
        source.close()
    assert [value for value in seen if value in values] == values


def test_motion_jpeg_whose_parts_have_no_type() -> None:
    values = [50, 60, 70, 80, 90, 100]
    movie = multipart(*map(jpeg, [*values, *[200] * 9]), kind=b"X-Number: 1\r\n")
    with answering(movie, movie) as address:
        source = opened(f"http://{address}/")
        seen = [source.read() for _ in values]
        source.close()
    assert [round(float(one.pixels.mean())) for one in seen if one is not None] == values
    assert [one.at for one in seen if one is not None] == [None] * len(values)


def test_an_answer_that_is_no_video_is_named() -> None:
    page = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html></html>"
    with answering(page) as address, pytest.raises(SourceError, match="sends no video") as raised:
        opened(f"http://user:secret@{address}/")
    assert "secret" not in str(raised.value)
    with answering(b"HTTP/1.0 404 Not Found\r\n\r\n") as address, pytest.raises(SourceError, match="404 Not Found"):
        opened(f"http://{address}/")


def test_a_redirect_is_not_followed_and_named() -> None:
    with answering(multipart(*map(jpeg, [50] * 10))) as other:
        answer = f"HTTP/1.1 302 Found\r\nLocation: http://{other}/?token=abc\r\nContent-Length: 0\r\n\r\n".encode()
        told = rf"{{}} redirects to http://{other}/\?token=\*\*\*: give that address"
        with answering(answer) as address, pytest.raises(SourceError, match=told.format(address)):
            opened(f"http://{address}/")


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://169.254.169.254/live",
        "rtsps://[fe80::1]/live",
        "http://a:secret@169.254.169.254/",
        "http://127.0.0.1:1/",
    ],
)
def test_metadata_links_and_this_host_over_http_are_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAMS_ALLOW_PRIVATE_URLS")
    with pytest.raises(SourceError, match=r"refused \(if it is meant: HAMS_ALLOW_PRIVATE_URLS=") as raised:
        opened(source)
    assert "secret" not in str(raised.value)


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(multipart(*map(jpeg, [50] * 10))) as address:
        asked = []
        real = socket.getaddrinfo

        def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
            asked.append(host)
            return real("127.0.0.1", *args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        source = opened(f"http://camera.example:{address.rpartition(':')[2]}/")  # FFmpeg could not resolve it
        assert source.read() is not None
        source.close()
    assert asked == ["camera.example"]


def test_a_file_over_http_is_no_camera(tmp_path: Path) -> None:
    data = video(tmp_path / "clip.mp4", every(0.04, 25)).read_bytes()
    head = b"HTTP/1.0 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % len(data)
    with (
        answering(head + data, head + data) as address,
        pytest.raises(SourceError, match=r"is a file of 1.0 s, not the stream of a camera \(download it"),
    ):
        opened(f"http://{address}/clip.mp4")


def test_http_with_a_password() -> None:
    head = b"HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: %s\r\nContent-Length: 0\r\n\r\n"
    movie = multipart(*(jpeg(value) for value in (50, 60, 70)))
    for ask in (b'Basic realm="x"', b'Digest realm="x", nonce="abc", qop="auth"'):
        with answering(head % ask, movie) as address:
            source = opened(f"http://admin:{quote(PASSWORD, safe='')}@{address}/")
            assert source.read() is not None
            source.close()
        with answering(head % ask) as address, pytest.raises(SourceError, match="401 Unauthorized") as raised:
            opened(f"http://admin:secret@{address}/")
        assert "secret" not in str(raised.value)
