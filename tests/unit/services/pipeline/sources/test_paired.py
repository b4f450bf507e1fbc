"""Two streams of one camera: which frames are pairs, and what becomes of the threads that read them."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from hams_services.pipeline.sources import paired
from hams_services.pipeline.sources.base import Picture, Source
from hams_services.pipeline.sources.opening import open_source
from hams_services.pipeline.sources.paired import LARGE_KEPT, SPARE_KEPT, Moment, Paired, partner
from hams_shared.errors import SourceError
from hams_shared.group.stream_spec import StreamSpec
from hams_shared.wire.frames import Pixels
from support.media import STEPS, number_of
from support.rtsp_server import RtspServer
from support.wait import until_sync

LARGE, SMALL = (48, 64, 3), (12, 16, 3)
LONG_S = 20.0


def came(*arrived: float) -> list[Moment]:
    """Frames of a camera without a clock."""
    return [Moment(one) for one in arrived]


@pytest.mark.parametrize(
    ("small", "large", "used", "now", "choice"),
    [
        pytest.param(Moment(0, 5.0), [Moment(9, 4.96), Moment(9, 5.0), Moment(9, 5.04)], None, 0, 1, id="the same"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.9), Moment(9, 5.08)], None, 0, 1, id="nearest is later"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.97), Moment(9, 5.08)], None, 0, 0, id="nearest is earlier"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.5), Moment(9, 5.5)], None, 0, 0, id="of two as near, the earlier"),
        pytest.param(Moment(0, 5.0), [Moment(9, 5.5)], None, 0, 0, id="half a second is near enough"),
        pytest.param(Moment(0, 5.0), [Moment(9, 5.51)], None, 0, "none", id="all are later"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.0)], None, 0.4, "wait", id="a late large stream is waited for"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.0)], None, 0.5, "none", id="for half a second"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.6)], None, 0.5, 0, id="then the nearest there is"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.94), Moment(9, 4.98)], None, 0, 1, id="the next one is farther"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.93), Moment(9, 4.97)], None, 0, "wait", id="the next one is nearer"),
        pytest.param(Moment(0, 5.0), [], Moment(9, 4.99), 0.1, "wait", id="the used one is known alone"),
        pytest.param(Moment(0, 5.0), [Moment(9, 5.03)], Moment(9, 4.99), 0, "none", id="the nearest is used"),
        pytest.param(Moment(0, 5.0), [Moment(9, 5.03)], Moment(9, 4.95), 0, 0, id="nearer than the used one"),
        pytest.param(Moment(0, 5.0), [Moment(9, 4.99)], Moment(9, 4.95), 0, 0, id="steps count from the used one"),
        pytest.param(Moment(0, 5.0), [], None, 0.1, "wait", id="no large frame yet"),
        pytest.param(Moment(0, 5.0), [], None, 0.6, "none", id="no large frame in time"),
        pytest.param(Moment(3.0), came(2.9, 3.08), None, 3.1, 1, id="by arrival where there is no clock"),
        pytest.param(Moment(3.0), [Moment(2.99, 80.0), Moment(3.3, 5.0)], None, 3.3, 0, id="the small has no clock"),
        pytest.param(Moment(3.0, 5.0), came(2.99, 3.3), None, 3.3, 0, id="the large have no clock"),
    ],
)
def test_which_frames_are_a_pair(
    small: Moment, large: list[Moment], used: Moment | None, now: float, choice: int | str
) -> None:
    assert partner(small, large, used, now) == choice


class Scripted(Source):
    """A stream that gives what the test sends; its reads wait for that."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.fps = None
        self.endless = True
        self.shape = shape
        self.buffers = 0
        """Frames that were not read into memory used before."""
        self.asked = 0
        self.closed = False
        self._sent: queue.SimpleQueue[tuple[int, float | None] | Exception | None] = queue.SimpleQueue()

    def send(self, value: int, captured: float | None = None) -> None:
        """Let the next read return a frame of grey `value`, and wait until the read after it began."""
        before = self.asked
        self._sent.put((value, captured))
        until_sync(lambda: self.asked > before, what="the frame is read")

    def end(self, how: Exception | None) -> None:
        """Let the next read raise, or end the stream."""
        self._sent.put(how)

    def read(self, into: Pixels | None = None) -> Picture | None:
        self.asked += 1
        sent = self._sent.get(timeout=LONG_S)
        if sent is None:
            return None
        if isinstance(sent, Exception):
            raise sent
        if into is None or into.shape != self.shape:
            into = np.empty(self.shape, np.uint8)
            self.buffers += 1
        into[:] = sent[0]
        return Picture(into, at=float(sent[0]), captured=sent[1])

    def rewind(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Camera:
    """Both streams, and what pairs them."""

    def __init__(self) -> None:
        self.large, self.small = Scripted(LARGE), Scripted(SMALL)
        self.source = Paired(self.large, self.small)
        until_sync(lambda: self.large.asked and self.small.asked, what="the first reads")

    def pair(self, into: Pixels | None = None) -> tuple[int, int]:
        """The grey values of the next pair."""
        picture = self.source.read(into)
        assert picture is not None
        assert picture.reduced is not None
        assert (picture.pixels.shape, picture.reduced.shape) == (LARGE, SMALL)
        assert picture.at == float(picture.pixels[0, 0, 0])
        return int(picture.pixels[-1, -1, 0]), int(picture.reduced[-1, -1, 0])


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    for stream in (camera.large, camera.small):
        stream.end(None)
    camera.source.close()
    assert (camera.large.closed, camera.small.closed) == (True, True)
    until_sync(lambda: not [one for one in threading.enumerate() if one.name.startswith("paired")], what="their end")


def test_frames_are_paired_by_the_cameras_clock_though_the_large_ones_come_late(camera: Camera) -> None:
    for number in range(4):
        camera.small.send(100 + number, 1e9 + number / 25)
    for number in range(4):
        camera.large.send(number, 1e9 + number / 25 + 0.003)
    picture = camera.source.read()
    assert picture is not None
    assert picture.captured == 1e9 + 0.003
    assert [camera.pair() for _ in range(3)] == [(1, 101), (2, 102), (3, 103)]


def test_a_slow_large_stream_gives_each_frame_once(camera: Camera) -> None:
    for number in range(6):
        camera.small.send(100 + number, 1e9 + number * 0.04)
    for number in range(3):
        camera.large.send(number, 1e9 + number * 0.08)
    assert [camera.pair() for _ in range(3)] == [(0, 100), (1, 102), (2, 104)]


def test_a_slow_small_stream_leaves_large_frames_out(camera: Camera) -> None:
    for number in range(7):
        camera.large.send(number, 1e9 + number * 0.04)
    for number in range(3):
        camera.small.send(100 + number, 1e9 + number * 0.12)
    assert [camera.pair() for _ in range(3)] == [(0, 100), (3, 101), (6, 102)]


def test_frames_without_a_clock_are_paired_by_arrival(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "SETTLE_S", 0.0)
    monkeypatch.setattr(paired, "FARTHEST_S", LONG_S)
    camera.small.send(101)
    camera.large.send(1)
    assert camera.pair() == (1, 101)


def test_frames_that_waited_while_the_streams_were_opened_are_left_out_where_they_have_no_clock(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired, "SETTLE_S", 60.0)
    for number, captured in ((1, None), (2, 1e9)):
        camera.large.send(number, captured)
        camera.small.send(100 + number, captured)
    assert camera.pair() == (2, 102)


def test_a_large_frame_is_read_into_the_memory_that_is_given(camera: Camera) -> None:
    memory, other = np.zeros(LARGE, np.uint8), np.zeros(SMALL, np.uint8)
    for number, into in enumerate((memory, None, other)):
        camera.large.send(number, 1e9 + number)
        camera.small.send(100 + number, 1e9 + number)
        picture = camera.source.read(into)
        assert picture is not None
        assert (picture.pixels is into) == (into is memory)
        assert (picture.pixels == number).all()


def test_a_frame_that_is_in_use_is_not_overwritten(camera: Camera) -> None:
    camera.large.send(7, 1e9)
    camera.small.send(107, 1e9)
    kept = camera.source.read()
    assert kept is not None
    for number in range(3 * LARGE_KEPT):
        camera.large.send(number, 1e9 + number)
        camera.small.send(number, 1e9 + number)
    assert (kept.pixels == 7).all()
    assert kept.reduced is not None
    assert (kept.reduced == 107).all()


def test_frames_that_nobody_takes_are_dropped_and_their_memory_is_used_again(camera: Camera) -> None:
    for number in range(50):
        camera.large.send(number, 1e9 + number)
    assert camera.large.buffers <= LARGE_KEPT + SPARE_KEPT
    camera.small.send(149, 1e9 + 49)
    assert camera.pair() == (49, 149)


@pytest.mark.parametrize("which", ["source", "substream"])
@pytest.mark.parametrize("how", [SourceError("rtsp://cam/x is lost: timed out", "is it on?"), OSError("gone"), None])
def test_the_loss_of_either_stream_is_the_loss_of_the_pair(camera: Camera, which: str, how: Exception | None) -> None:
    for stream in (camera.large, camera.small):
        stream.send(1, 1e9)
    (camera.large if which == "source" else camera.small).end(how)
    assert camera.pair() == (1, 1)  # what was there before is given
    with pytest.raises(SourceError, match=f"^{which}: {'it has ended' if how is None else ''}") as caught:
        camera.source.read()
    if isinstance(how, SourceError):
        assert caught.value.text == f"{which}: {how.text}"
        assert caught.value.hint == how.hint


def test_two_clocks_that_differ_are_named(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "PATIENCE_S", 0.5)
    stop = threading.Event()

    def play() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            camera.small.send(number % 256, 1e9 + number * 0.02)
            camera.large.send(number % 256, 1e9 + number * 0.02 + 3600)

    player = threading.Thread(target=play)
    player.start()
    try:
        with pytest.raises(SourceError, match="no two frames are within") as caught:
            camera.source.read()
        assert "the same clock" in caught.value.hint
    finally:
        stop.set()
        player.join(LONG_S)


@pytest.mark.parametrize("which", ["source", "substream"])
def test_a_stream_that_sends_nothing_is_named(camera: Camera, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    monkeypatch.setattr(paired, "FIRST_S", 0.2)
    (camera.small if which == "source" else camera.large).send(1, 1e9)
    with pytest.raises(SourceError, match=f"^{which}: no frame for"):
        camera.source.read()


def test_damage_and_notes_are_those_of_both(camera: Camera) -> None:
    camera.large.note, camera.large.damaged, camera.small.damaged = "a defect", 2, 3
    for stream in (camera.large, camera.small):
        stream.send(1, 1e9)
    camera.pair()
    assert (camera.source.note, camera.source.damaged) == ("a defect", 5)


def test_streams_that_are_exchanged_are_noted() -> None:
    large, small = Scripted(SMALL), Scripted(LARGE)
    source = Paired(large, small)
    for stream in (large, small):
        stream.send(1, 1e9)
    assert source.read() is not None
    assert "are they exchanged?" in source.note
    for stream in (large, small):
        stream.end(None)
    source.close()


def last_15(seen: list[tuple[float | None, int]]) -> list[int]:
    return [frames for _, frames in seen[-15:]]


def spread(offsets: list[int]) -> int:
    """How many frames these differ by at most, modulo `STEPS`."""
    seen = sorted(set(offsets))
    return STEPS - max(after - before for before, after in itertools.pairwise([*seen, seen[0] + STEPS]))


@pytest.mark.parametrize("clock", [0.0, None], ids=["by RTCP", "by arrival"])
def test_two_streams_of_a_camera_over_rtsp(clock: float | None) -> None:
    """Pairs keep their distance, to a frame, as soon as no server is held up for the time of 15 frames."""
    with RtspServer(sizes=((640, 480),), clock=clock) as large, RtspServer(sizes=((160, 120),), clock=clock) as small:
        spec = StreamSpec(source=large.start().url, substream=small.start().url)
        source = open_source(spec)
        try:
            seen: list[tuple[float | None, int]] = []
            while len(seen) < 20 or (len(seen) < 500 and spread(last_15(seen)) > 1):
                picture = source.read()
                assert picture is not None
                assert picture.reduced is not None
                assert (picture.pixels.shape, picture.reduced.shape) == ((480, 640, 3), (120, 160, 3))
                seen.append((picture.at, (number_of(picture.pixels) - number_of(picture.reduced)) % STEPS))
            times = [at for at, _ in seen if at is not None]
            assert times == sorted(set(times))  # each large frame once
            assert len(times) >= 15
            assert spread(last_15(seen)) <= 1
            large.kill()
            with pytest.raises(SourceError, match=r"^source: rtsp://127.0.0.1"):
                while True:
                    source.read()
        finally:
            source.close()


def test_a_substream_that_cannot_be_opened_is_told_without_secrets_and_closes_the_large_one() -> None:
    with RtspServer() as large, RtspServer(user="admin", password="right") as small:
        wrong = small.start().url.replace("rtsp://", "rtsp://admin:subPass2@") + "?token=tok3n"
        with pytest.raises(SourceError, match="401") as caught:
            open_source(StreamSpec(source=large.start().url, substream=wrong))
    assert "127.0.0.1" in caught.value.text
    for secret in ("subPass2", "tok3n"):
        assert secret not in str(caught.value)
    until_sync(lambda: not [one for one in threading.enumerate() if one.name.startswith("paired")], what="their end")
