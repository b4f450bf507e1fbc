"""Small video files as people have them, made by PyAV. A frame tells its number by its grey: :func:`number_of`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation

SIZE = (64, 48)
STEPS = 36
"""Frames with different greys; frame `STEPS` looks as frame 0."""
TICKS = 1000
"""Ticks of a file's clock, 1/s."""
ACCURATE = Interpolation.BILINEAR | 0x40000 | 0x2000
"""SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT: without them, greys get 3 darker."""


def value(number: int) -> int:
    """The grey of frame `number`, 45 to 220."""
    return 45 + 5 * (number % STEPS)


def number_of(pixels: np.ndarray) -> int:
    """The number of the frame with these pixels, by its mean grey, modulo `STEPS`.

    FFmpeg's fast conversion from YUV, without SWS_ACCURATE_RND, gives greys that are up to 2.7 darker.
    """
    return round((float(pixels.mean()) + 1.1 - 45) / 5) % STEPS


def picture(number: int, size: tuple[int, int] = SIZE, noise: int = 0) -> np.ndarray:
    """Frame `number`, height×width×3, lighter at its left side and, less so, at its top: see :func:`is_upright`.

    With `noise` its pixels are up to that much darker or lighter; then it compresses badly.
    """
    pixels = np.full((size[1], size[0], 3), value(number), np.int16)
    pixels[:, : size[0] // 2] += 8
    pixels[:, size[0] // 2 :] -= 8
    pixels[: size[1] // 2] += 4
    pixels[size[1] // 2 :] -= 4
    if noise:
        half = np.random.default_rng(number).integers(-noise, noise + 1, (size[1], size[0] // 2, 1), np.int16)
        pixels += np.concatenate([half, -half], axis=1)  # the mean stays
    return pixels.astype(np.uint8)


def is_upright(pixels: np.ndarray) -> bool:
    """Whether a frame stands as :func:`picture` made it."""
    half, middle = pixels.shape[0] // 2, pixels.shape[1] // 2
    rows = pixels[:half], pixels[half:]
    corners = [float(part.mean()) for row in rows for part in (row[:, :middle], row[:, middle:])]
    return corners[0] > corners[2] > corners[1] > corners[3]


def every(seconds: float, count: int, start: float = 0.0) -> list[float]:
    """`count` times, `seconds` apart, s."""
    return [start + n * seconds for n in range(count)]


def uneven() -> list[float]:
    """30 frames 40 ms apart, then 30 frames 200 ms apart; the mean rate is 8.6/s."""
    return every(0.04, 30) + every(0.2, 30, 30 * 0.04)


def frames(
    shown: Iterable[tuple[int, float]],
    size: tuple[int, int],
    pixel_format: str = "yuv420p",
    *,
    noise: int = 0,
    turned: int = 0,
    ticks: int = TICKS,
) -> Iterator[av.VideoFrame]:
    """Frames of these numbers and times, s."""
    for number, time in shown:
        pixels = np.rot90(picture(number, size, noise), turned // 90)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
        frame = frame.reformat(format=pixel_format, interpolation=ACCURATE)
        frame.pts, frame.time_base = round(time * ticks), Fraction(1, ticks)
        yield frame


OPTIONS = {
    "libx264": {"preset": "ultrafast", "g": "12", "keyint_min": "12", "sc_threshold": "0", "bf": "0", "crf": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:bframes=0:crf=12"},
    "libvpx-vp9": {"deadline": "realtime", "crf": "12", "b": "0"},
    "mpeg4": {"b": "8000000", "qmin": "1", "qmax": "2", "g": "12"},
    "mjpeg": {"qmin": "2", "qmax": "2"},
}


def video(
    path: Path,
    times: Sequence[float] = tuple(every(0.04, 30)),
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sizes: Sequence[tuple[int, int]] = (SIZE,),
    noise: int = 0,
    rotation: int = 0,
    turned: int = 0,
    ticks: int = TICKS,
    first: int = 0,
    **muxer: str,
) -> Path:
    """Write frames shown at `times`, s; return `path`.

    Args:
        sizes: width and height; of several, each is that of an equal part of the frames, in turn.
        noise: see :func:`picture`.
        rotation: degrees, counter-clockwise, by which a player turns the frames.
        turned: degrees, counter-clockwise, by which the frames are turned; `sizes` are those before.
        ticks: ticks of the file's clock, 1/s. An AVI file has an empty chunk at each tick without a frame.
        first: number of the first frame.
        muxer: options of the muxer.
    """
    shown = list(enumerate(times, first))
    part = -(-len(shown) // len(sizes))
    with av.open(str(path), "w", options=muxer) as file:
        stream = file.add_stream(codec, rate=ticks, options=OPTIONS.get(codec, {}))
        assert isinstance(stream, av.VideoStream)
        _prepare(stream.codec_context, sizes[0] if turned % 180 == 0 else sizes[0][::-1], pixel_format, ticks)
        if rotation:
            stream.set_display_rotation(rotation)
        for n, size in enumerate(sizes):
            encoder = stream.codec_context if n == 0 else encoder_of(codec, size, pixel_format, ticks)
            made = frames(shown[n * part : (n + 1) * part], size, pixel_format, noise=noise, turned=turned, ticks=ticks)
            for frame in (*made, None):
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    file.mux(packet)
    return path


def encoder_of(codec: str, size: tuple[int, int], pixel_format: str = "yuv420p", ticks: int = TICKS) -> Any:
    """An encoder that belongs to no file; its parameter sets are in its key frames."""
    encoder = av.CodecContext.create(codec, "w")
    _prepare(encoder, size, pixel_format, ticks)
    encoder.options = OPTIONS.get(codec, {})
    return encoder


def _prepare(encoder: Any, size: tuple[int, int], pixel_format: str, ticks: int) -> None:
    encoder.width, encoder.height = size
    encoder.pix_fmt = pixel_format
    encoder.time_base = Fraction(1, ticks)
    encoder.thread_count = 1


def two_codecs(path: Path) -> Path:
    """Write a transport stream whose video is 30 frames of H.264, then 30 of HEVC, under a new table of programs."""
    first = video(path.with_stem("first"), every(0.04, 30))
    second = video(path.with_stem("second"), every(0.04, 30, 1.2), first=30, codec="libx265", tables_version="1")
    path.write_bytes(first.read_bytes() + second.read_bytes())
    return path


def sound(path: Path, seconds: float = 1.0) -> Path:
    """Write a file with a tone and no picture."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        for start in range(0, int(8000 * seconds), 1024):
            tone = np.sin(np.arange(start, start + 1024) / 10).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            file.mux(stream.encode(frame))  # type: ignore[arg-type]
        file.mux(stream.encode(None))  # type: ignore[arg-type]
    return path


def joined(path: Path, *parts: Path, covers: Sequence[Path] = ()) -> Path:
    """Write a file with the streams of `parts`, in this order; those of `covers` are marked as album covers."""
    with av.open(str(path), "w") as file:
        packets: list[Any] = []
        for part in (*parts, *covers):
            opened = av.open(str(part))
            stream = file.add_stream_from_template(opened.streams[0])
            stream.disposition = Disposition.attached_pic if part in covers else Disposition.default
            found = [packet for packet in opened.demux() if packet.size]
            for packet in found:
                packet.stream = stream
            packets += found
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            file.mux(packet)
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """Write the first `share` of the file's bytes beside it; return that path."""
    data = path.read_bytes()
    short = path.with_stem(f"{path.stem}-cut")
    short.write_bytes(data[: int(len(data) * share) // 188 * 188 + 100])  # in the middle of a packet of TS
    return short


def trimmed(path: Path, start: float, seconds: float) -> Path:
    """Write an MP4 whose edit list shows `seconds` from `start` on, and that has all frames; return that path."""
    data = bytearray(path.read_bytes())
    edit = data.index(b"elst") + 4
    for box, at, value in ((b"mvhd", edit + 8, seconds), (b"mdhd", edit + 12, start)):
        ticks = data.index(box) + 16
        data[at : at + 4] = round(value * int.from_bytes(data[ticks : ticks + 4], "big")).to_bytes(4, "big")
    short = path.with_stem(f"{path.stem}-trimmed")
    short.write_bytes(data)
    return short


def overwritten(path: Path, start: float = 0.4, end: float = 0.5, seed: int = 1) -> Path:
    """Write the file with random bytes from `start` to `end`, shares of its length, beside it; return that path."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = np.random.default_rng(seed).bytes(last - first)
    broken = path.with_stem(f"{path.stem}-broken")
    broken.write_bytes(data)
    return broken
