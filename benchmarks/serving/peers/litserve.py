"""LitServe, for a group of one network: frames as raw bytes over HTTP, connections kept open, answers as JSON."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any

import litserve
import numpy as np
from fastapi import Body

from benchmarks.serving.case import Case, Node, Pixels, Score, descendants, frames, open_device, pin, whole
from benchmarks.serving.peers.common import (
    STALL_S,
    START_S,
    Done,
    Feed,
    die_with_parent,
    end,
    environment,
    free_port,
    main,
    plain,
)

# No postponed annotations here: LitServe takes the request's type from `decode_request`.


class Detector(litserve.LitAPI):  # type: ignore[misc]
    """The root node on its device."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self._case = case

    def setup(self, device: str) -> None:
        """Called in the process that works."""
        case, name = self._case, self._case.spec().root
        text = case.devices[case.device(name)]
        self._shape = next(frames(case.video)).shape
        pin(text)
        self._node = Node(case, name, open_device(text))

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Any:
        """Bytes → frame."""
        return np.frombuffer(request, np.uint8).reshape(self._shape)

    def predict(self, frame: Any) -> Any:
        """Frame → objects."""
        (found,), _ = self._node.run(whole(frame), frame)
        return found

    def encode_response(self, output: Any) -> Any:
        """Objects → JSON."""
        return plain(output)


def serve(case: Case, port: int) -> None:
    """Serve until ended."""
    server = litserve.LitServer(Detector(case), accelerator="cpu", devices=1, workers_per_device=1, timeout=STALL_S)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="error")


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Ask for the server's health."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError("the server did not start")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STALL_S)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"the server was not ready within {START_S:g} s")


def run(case: Case) -> Score:
    """Measure it."""
    if len(case.spec().nodes) != 1:
        raise ValueError("this peer runs groups of one node only")
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.serving.peers.litserve", sys.argv[1], str(port)]
    process = subprocess.Popen(
        argv, stdout=sys.stderr, preexec_fn=die_with_parent, start_new_session=True, env=environment()
    )
    try:
        wait_until_ready(process, port)
        connections: dict[tuple[int, int], http.client.HTTPConnection] = {}
        pool = ThreadPoolExecutor(case.window * case.streams)

        def ask(key: tuple[int, int], frame: Pixels, done: Done) -> None:
            connection = connections.get(key)
            if connection is None:
                connection = connections[key] = http.client.HTTPConnection("127.0.0.1", port, timeout=STALL_S)
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request(
                "POST", "/predict", memoryview(frame).cast("B"), {"Content-Type": "application/octet-stream"}
            )
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}: {body[:200]!r}")
            done(len(json.loads(body)))

        def check(future: Future[None]) -> None:
            error = future.exception()
            if error is not None:
                feed.fail(error)

        def submit(stream: int, place: int, frame: Pixels, done: Done) -> None:
            pool.submit(ask, (stream, place), frame, done).add_done_callback(check)

        feed = Feed(case, submit)
        return feed.run().score(descendants(process.pid))
    finally:
        end(descendants(process.pid))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        os.environ.setdefault("LIT_LOG_LEVEL", "ERROR")
        serve(Case.load(sys.argv[1]), int(sys.argv[2]))
    else:
        main(run)
