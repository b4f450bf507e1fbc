"""What the data plane promises with real processes: slow readers, frames that cannot be mapped, metrics."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from support.grey import LENGTH, SIZE, STEP, group_file, video
from support.nats_server import NatsServer
from support.ports import free_port
from support.results import Subscriber
from support.up import ROOT, Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_a_subscriber_that_reads_nothing_slows_nobody(tmp_path: Path) -> None:
    with Up(tmp_path / "home", "openvino:CPU@0") as up:
        at = urlsplit(up.url)
        with socket.create_connection((at.hostname or "", at.port or 0)) as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.sendall(b'CONNECT {"verbose":false}\r\nSUB hams.> 1\r\nPING\r\n')
            with Subscriber(up.url, "grey") as results:
                up.ctl("deploy", group_file(tmp_path, video(tmp_path), mode="lossless", pace="max"))
                assert up.until_ended()["delivered"] == LENGTH
                results.until(LENGTH)
                assert results.frames == list(range(LENGTH))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare(1) to make a namespace with")
def test_frames_that_cannot_be_mapped_travel_in_parts(tmp_path: Path) -> None:
    """An agent with a /dev/shm of its own, as in another container, and a broker that takes a quarter of a frame."""
    private = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*private, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a mount namespace")
    server = NatsServer(tmp_path / "nats", max_payload=SIZE[0] * SIZE[1] * 3 // 4)
    server.start()
    try:
        with Up(tmp_path / "home", "openvino:CPU@0", options=("--nats", server.url)) as up:
            argv = [*private, sys.executable, "-m", "hams_agents", "--device", "onnxruntime:CPU@0", "--host", "far"]
            with (tmp_path / "far.log").open("w") as log:
                agent = subprocess.Popen([*argv, "--nats", server.url], env=up.env, cwd=ROOT, stderr=log)
            try:
                both = up.json_when(lambda ds: len(ds) == 2 and all(d["heartbeat"] for d in ds), "devices")
                domains = {d["record"]["host"]: d["heartbeat"]["memory_domain"] for d in both}
                assert domains["far"] != domains["box"]
                spec = yaml.safe_load(group_file(tmp_path, video(tmp_path), mode="lossless", pace="max").read_text())
                spec["nodes"]["light"]["pin"] = [d["record"]["device"] for d in up.json("devices") if "far" in str(d)]
                (tmp_path / "far.yaml").write_text(yaml.safe_dump(spec))
                with Subscriber(server.url, "grey") as results:
                    up.ctl("deploy", tmp_path / "far.yaml")
                    up.until_ended()
                    results.until(LENGTH)
                assert results.frames == list(range(LENGTH))
                for result in results.received:
                    [one] = result.objects
                    assert abs(one["light"]["value"] - STEP * result.frame) < STEP / 2 + 1
                    assert result.nodes["light"]["device"].startswith("far.")
            finally:
                agent.terminate()
                agent.wait(30)
    finally:
        server.stop(kill=True)


def test_up_serves_metrics(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Up(tmp_path / "home", "openvino:CPU@0", options=("--metrics", address)) as up:
        assert address in up.output()

        def shown() -> bool:
            try:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                    return b'hams_device_up{device="box.openvino.cpu0"' in answer.read()
            except OSError:  # it does not listen yet
                return False

        until_sync(shown, 30, "the device among the metrics")
        assert "HOST:PORT" in up.ctl("metrics", "--listen", "nowhere", code=2)
