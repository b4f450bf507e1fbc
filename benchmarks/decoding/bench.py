"""What 1, 4 and 8 streams of 1080p cost, and one of them against ``ffmpeg -threads 1``, in turns in one run."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "benchmarks"
SIZE, FPS, FRAMES = (1920, 1080), 25, 250
STREAMS = (1, 4, 8)


def main(options: list[str]) -> None:
    """Run, and write docs/benchmarks/decoding.json and decoding.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks decoding")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each number of streams")
    given = parser.parse_args(options)
    ffmpeg = shutil.which("ffmpeg")
    with tempfile.TemporaryDirectory(prefix="hams-decoding-") as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip)
        turns = []
        for _ in range(given.rounds):
            ours = _play(clip, 1, 0.0)
            turns.append((ours["cpu_s"] / ours["frames"], _ffmpeg(ffmpeg, clip) / FRAMES if ffmpeg else None))
        many = {count: _play(clip, count, given.seconds) for count in STREAMS}
    rows = {"processor": _processor(), "turns": turns, "streams": many}
    (DOCS / "decoding.json").write_text(json.dumps(rows, indent=1) + "\n")
    (DOCS / "decoding.md").write_text(table(rows))
    print(table(rows))


def make_clip(path: Path) -> None:
    """Write moving shapes with the noise of a camera, H.264 at about 6 Mbit/s."""
    width, height = SIZE
    random, (y, x) = np.random.default_rng(0), np.mgrid[0:height, 0:width].astype(np.float32)
    noise = random.normal(0, 4, (height, width, 1)).astype(np.float32)
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=FPS, options={"preset": "fast", "b": "6M"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number in range(FRAMES):
            waves = [np.sin((x * a + y * b + number * c) / 60) for a, b, c in ((1, 1, 9), (2, -1, 5), (-1, 3, 7))]
            image = 128 + 60 * np.stack(waves, -1) + np.roll(noise, number * 7, (0, 1))
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="bgr24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _play(clip: Path, streams: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.decoding.play", str(clip), str(streams), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600 + 3 * seconds)
    return {**json.loads(done.stdout), "seconds": seconds}


def _ffmpeg(program: str, clip: Path) -> float:
    """Return the CPU time of ffmpeg for the clip, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [program, "-v", "error", "-y", "-threads", "1", "-i", str(clip), "-pix_fmt", "bgr24", "-f", "rawvideo"]
    subprocess.run([*command, os.devnull], check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def table(rows: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    ours = median(turn[0] for turn in rows["turns"])
    lines = ["| 1080p, H.264 | CPU, ms per frame | ÷ ffmpeg |", "|---|---|---|"]
    if rows["turns"][0][1] is not None:
        theirs = median(turn[1] for turn in rows["turns"])
        ratio = median(a / b for a, b in rows["turns"])
        lines += [f"| `ffmpeg -threads 1` to B, G, R | {theirs * 1e3:.1f} | 1 |"]
        lines += [f"| HAMS, into shared memory | {ours * 1e3:.1f} | {ratio:.2f} |"]
    else:
        lines += [f"| HAMS, into shared memory | {ours * 1e3:.1f} | |"]
    lines += [
        "",
        f"| streams of {FPS} frames/s | frames/s each | CPU, cores each | memory each, MB |",
        "|---|---|---|---|",
    ]
    for count, found in rows["streams"].items():
        seconds, count = found["seconds"], int(count)
        each = [found["frames"] / seconds, found["cpu_s"] / seconds, found["bytes"] / 1e6]
        lines.append("| {} | {:.1f} | {:.2f} | {:.0f} |".format(count, *(value / count for value in each)))
    return "\n".join(lines) + "\n"
