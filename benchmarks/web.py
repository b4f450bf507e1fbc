"""``python -m benchmarks web``: what the page costs: CPU time and memory of hams-web, from /proc, and of its pictures.

A whole system on this machine serves four live streams of 1280×720, with eight boxes in each frame. The
network is a trivial one, so that pictures and results come as fast as cameras send them. One viewer reads what a page
reads: the state once a second, and the pictures of all four streams. Encoding is the pipeline's work, and is reported
apart.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import yaml
from onnx import TensorProto, helper, save

from hams_services.ctl.system.broker import check_port

STREAMS, SIZE, BOXES = 4, (1280, 720), 8
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def network(path: Path) -> Path:
    """Write a network that finds the same boxes in each image, for next to nothing."""
    rows = [[0, 1, 0.9, x, 0.2, x + 0.08, 0.6] for x in np.linspace(0.02, 0.88, BOXES)]
    constant = helper.make_tensor("boxes", TensorProto.FLOAT, [1, 1, BOXES, 7], np.array(rows, np.float32).ravel())
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["boxes", "nothing"], ["y"]),
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, BOXES, 7])
    graph = helper.make_graph(nodes, "boxes", [image], [found], [constant, zero])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def video(path: Path, fps: int, seconds: int = 10) -> Path:
    """Write a video of a soft background with something that moves."""
    rng = np.random.default_rng(1)
    background = cv2.resize(rng.integers(0, 255, (45, 80, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("h264", rate=fps, options={"preset": "ultrafast", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(seconds * fps):
            frame = background.copy()
            cv2.circle(frame, (number * 5 % SIZE[0], 360), 90, (40, 200, 240), -1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def group(folder: Path, fps: int) -> Path:
    """Write the group's file."""
    node = {
        "model": str(network(folder / "boxes.onnx")),
        "input": {"size": [16, 16]},
        "task": {"type": "detection_output", "labels": {1: "thing"}, "iou": 0.9},
        "track": {"motion": "flow"},
    }
    source = {
        "source": str(video(folder / "camera.mp4", fps)),
        "loop": True,
        "zones": {"door": [[0, 0], [0.4, 0], [0.4, 1]]},
    }
    streams = {f"cam{n}": source for n in range(1, STREAMS + 1)}
    path = folder / "group.yaml"
    path.write_text(yaml.safe_dump({"name": "web", "nodes": {"find": node}, "streams": streams}))
    return path


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE / 2**20


class Viewer:
    """Reads what one page reads, and counts it."""

    def __init__(self, port: int, tiles: list[str]) -> None:
        self.states, self.pictures, self.bytes = 0, Counter[str](), 0
        self._port, self._closed = port, False
        query = "&".join(f"tile={tile}" for tile in tiles)
        jobs = ((self._live, "/api/live"), (self._look, f"/api/pictures?{query}"))
        self._threads = [threading.Thread(target=job, args=(path,), daemon=True) for job, path in jobs]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop; the threads end with what they read next."""
        self._closed = True
        for thread in self._threads:
            thread.join(20)

    def _open(self, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request("GET", path)
        return connection.getresponse()

    def _live(self, path: str) -> None:
        response = self._open(path)
        while not self._closed and (line := response.readline()):
            self.states += line.startswith(b"data:")

    def _look(self, path: str) -> None:
        response = self._open(path)
        while not self._closed and (lengths := response.read(8)):
            head, jpeg = struct.unpack(">II", lengths)
            record = response.read(head + jpeg)
            self.bytes += 8 + len(record)
            if head:
                self.pictures[json.loads(record[:head])["stream"]] += 1


class Site:
    """A system and its page, each in processes of their own."""

    def __init__(self, folder: Path, fps: int) -> None:
        self.env = {**os.environ, "HAMS_HOME": str(folder / "home"), "HAMS_HOST": "box"}
        self._up = self._start(
            "hams_services.ctl", "up", "--port", "0", "--no-web", "--no-optimizer", "-d", "openvino:CPU@0"
        )
        where = folder / "home" / "up.json"
        until(where.exists, 120, "hams-ctl up")
        argv = self._argv("hams_services.ctl", "deploy", str(group(folder, fps)))
        done = subprocess.run(argv, env=self.env, timeout=200)
        if done.returncode:
            raise SystemExit("the group is not served")
        self.port = check_port("127.0.0.1", 0)
        url = json.loads(where.read_text(encoding="utf-8"))["url"]
        self.web = self._start("hams_services.web", "--listen", f"127.0.0.1:{self.port}", "--nats", url)
        until(lambda: self.ask("/healthz"), 30, "hams-web")

    def _argv(self, module: str, *args: str) -> list[str]:
        return [sys.executable, "-m", module, *args]

    def _start(self, module: str, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._argv(module, *args), env=self.env, stdout=subprocess.DEVNULL)

    def ask(self, path: str) -> dict[str, Any]:
        """Ask the page; empty while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, ValueError):
            return {}
        finally:
            connection.close()
        return found

    def close(self) -> None:
        """Stop the processes."""
        for process in (self.web, self._up):
            process.terminate()
            process.wait(60)


def until(condition: Any, timeout: float, what: str) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {timeout:g} s: {what}")
        time.sleep(0.1)


def span(site: Site, seconds: float) -> dict[str, float]:
    """Let `seconds` pass; return what hams-web and encoding took of one core, in percent, and memory over time."""
    pid, began = site.web.pid, time.monotonic()
    cpu, before, memory = cpu_s(pid), site.ask("/api/self"), [resident_mib(pid)]
    while (left := began + seconds - time.monotonic()) > 0:
        time.sleep(min(10.0, left))
        memory.append(resident_mib(pid))
    took, after = time.monotonic() - began, site.ask("/api/self")
    grown = {key: after[key] - before[key] for key in ("encoding_cpu_s", "pictures_sent", "picture_bytes")}
    return {
        "seconds": round(took, 1),
        "cpu_percent": round(100 * (cpu_s(pid) - cpu) / took, 3),
        "encoding_percent": round(100 * grown["encoding_cpu_s"] / took, 3),
        "pictures_per_s": round(grown["pictures_sent"] / took, 2),
        "kib_per_picture": round(grown["picture_bytes"] / 1024 / max(1, grown["pictures_sent"]), 1),
        "memory_mib_first": round(memory[min(2, len(memory) - 1)], 1),
        "memory_mib_last": round(memory[-1], 1),
        "memory_mib_most": round(max(memory), 1),
    }


def main(arguments: list[str]) -> None:
    """Measure, print, and write the figures if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks web", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="with a viewer; the hour is 3600")
    parser.add_argument("--idle", type=float, default=30, help="seconds without a viewer, first")
    parser.add_argument("--fps", type=int, default=25, help="of the cameras; the page shows 5 pictures/s of each")
    parser.add_argument("--out", type=Path, help="write the figures there, JSON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), options.fps)
        try:
            time.sleep(10)  # it settles
            idle = span(site, options.idle)
            viewer = Viewer(site.port, [f"web/cam{n}" for n in range(1, STREAMS + 1)])
            time.sleep(5)
            watched = span(site, options.seconds)
            viewer.close()
        finally:
            site.close()
    found = {"idle": idle, "one viewer": watched, "streams": dict(viewer.pictures), "states": viewer.states}
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
