"""A whole system whose parts are plain processes, so that one can be killed and started again at a chosen time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from onnx import TensorProto, helper, save

from benchmarks import motion_jpeg
from hams_services.ctl.system.broker import check_port, find_nats_server, write_config
from hams_shared.runtime.credentials import VARIABLE

LENGTH = 60
SIZE = (320, 240)


def wait(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {timeout} s: {what}")
        time.sleep(0.005)


class Rig:
    """Broker, two schedulers, pipeline and agents, in `folder`; without `devices`, of two emulated ones.

    With `secrets`, a folder that `hams-ctl init` made, by TLS, and all parts as admins. `before` is put before the
    command of each agent; with `monitor`, the broker tells its figures on that port.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        secrets: Path | None = None,
        devices: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        monitor: int | None = None,
        fps: float = 40.0,
    ) -> None:
        self.folder = folder
        self.logs = folder
        self.port = check_port("127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self.port}"
        self.env = {**os.environ, "HAMS_HOME": str(folder / "home"), "HAMS_HOST": "box"}
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        self.env_of: dict[str, dict[str, str]] = {}
        """By part: what its environment has besides `env`."""
        self._argv: dict[str, list[str]] = {}
        if secrets is not None:
            self.env[VARIABLE] = str(secrets / "admin.creds")
        config = write_config(folder / "nats", host=host, port=self.port, secrets=secrets, monitor_port=monitor)
        self._argv["broker"] = [str(find_nats_server()), "--config", str(config)]
        for name, module in (
            ("scheduler-1", "hams_scheduler"),
            ("scheduler-2", "hams_scheduler"),
            ("pipeline", "hams_services.pipeline"),
        ):
            self._argv[name] = [sys.executable, "-m", module, "--nats", self.url]
        for name, device in (devices or {name: self.profile(name, fps) for name in ("a", "b")}).items():
            self._argv[f"agent-{name}"] = [
                *(*before, sys.executable, "-m", "hams_agents", "--nats", self.url, "--device", device)
            ]

    def profile(self, name: str, fps: float = 40.0) -> str:
        """An emulated device of so many frames/s."""
        profile = {"name": name, "kind": "vpu", "memory_mib": 512, "run": "openvino", "fps": {"*": fps},
                   "note": "emulated, for the reliability benchmark"}  # fmt: skip
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(profile))
        return f"emulated:{path}"

    def __enter__(self) -> Rig:
        self.start("broker")
        for name in self._argv:
            if name != "broker":
                self.start(name)
        return self

    def __exit__(self, *exc: object) -> None:
        for name, part in reversed(self.parts.items()):
            part.send_signal(signal.SIGTERM)
            try:
                part.wait(20)
            except subprocess.TimeoutExpired:
                print(f"{name} had to be killed")
                part.kill()
                part.wait(10)

    def add(self, name: str, module: str) -> None:
        """Start one part more."""
        self._argv[name] = [sys.executable, "-m", module, "--nats", self.url]
        self.start(name)

    def start(self, name: str) -> None:
        """Start a part; the broker is waited for."""
        self.parts.pop(name, None)
        env = self.env | self.env_of.get(name, {})
        with (self.logs / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(self._argv[name], env=env, stdout=log, stderr=log)
        if name == "broker":
            wait(self._listens, 20, "the broker")

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self, name: str) -> float:
        """Kill -9 a part; return when (monotonic)."""
        self.parts[name].kill()
        at = time.monotonic()
        self.parts[name].wait(10)
        return at

    def group_file(self, **keys: object) -> Path:
        """A group that says how bright a frame is; its stream is lossless and endless. `keys`: more of the group."""
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
            helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=1),
        ]
        image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
        value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "brightness", [image], [value])
        save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
            self.folder / "light.onnx",
        )
        video = self.folder / "grey.avi"
        if not video.exists():  # a pipeline may be reading it
            motion_jpeg.write(video, (np.full((SIZE[1], SIZE[0], 3), n * 4, np.uint8) for n in range(LENGTH)), SIZE)
        node = {"model": str(self.folder / "light.onnx"), "input": {"size": [8, 8]}, "task": {"type": "regression"}}
        stream = {"source": str(video), "mode": "lossless", "pace": "max", "loop": True}
        path = self.folder / "group.yaml"
        path.write_text(yaml.safe_dump({"name": "grey", "nodes": {"light": node}, "streams": {"s": stream}, **keys}))
        return path

    def ctl(self, *args: str) -> str:
        """Run ``hams-ctl``."""
        argv = [sys.executable, "-m", "hams_services.ctl", *args, "--nats", self.url]
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"hams-ctl {' '.join(args)}:\n{done.stdout}{done.stderr}")
        return done.stdout
