"""Triton: an ensemble of the group's nodes, each a model of the Python backend in a process pinned to its device.

The server comes out of the wheel ``nvidia-pytriton``. Frames lie in shared memory known to the server; crops go from
model to model as tensors within it; the ensemble's answer is all nodes' answers, which the client joins.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.utils.shared_memory as shm

from benchmarks.serving.case import Case, Pixels, Score, descendants, frames
from benchmarks.serving.peers.common import (
    STALL_S,
    START_S,
    STOP_S,
    Done,
    Feed,
    die_with_parent,
    end,
    environment,
    free_port,
    join,
    main,
    scratch,
)
from hams_shared.group.spec import GroupSpec

PARTS = {
    "images": ("TYPE_UINT8", [-1, -1, -1, 3]),
    "to_frame": ("TYPE_FP64", [-1, 2, 3]),
    "sources": ("TYPE_INT32", [-1]),
}
"""What a node's crops are made of."""
FRAME = ("TYPE_UINT8", [-1, -1, 3])
ANSWER = ("TYPE_UINT8", [-1])
ENSEMBLE = "hams_group"
MODEL = """import os, sys
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)  # Triton's interpreter does not heed it
from benchmarks.serving.peers.triton_model import TritonPythonModel
"""
Tensor = tuple[str, tuple[str, list[int]]]


def tensors(entries: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Declare tensors."""
    return [{"name": name, "data_type": kind, "dims": dims} for name, (kind, dims) in entries]


def node_config(case: Case, spec: GroupSpec, name: str) -> dict[str, Any]:
    """One node's model."""
    crops = [(f"{child}_{part}", kind) for child in spec.children(name) for part, kind in PARTS.items()]
    return {
        "name": name,
        "backend": "python",
        "max_batch_size": 0,
        "input": tensors([("images", FRAME)] if name == spec.root else PARTS.items()),
        "output": tensors([("answer", ANSWER), *crops]),
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
        "parameters": {"case": {"string_value": sys.argv[1]}},
    }


def ensemble_config(spec: GroupSpec) -> dict[str, Any]:
    """The group."""
    steps = []
    for name in spec.nodes:
        inputs = {"images": "frame"} if name == spec.root else {part: f"{name}_{part}" for part in PARTS}
        crops = [f"{child}_{part}" for child in spec.children(name) for part in PARTS]
        outputs = {"answer": f"{name}_answer", **{one: one for one in crops}}
        steps.append({"model_name": name, "model_version": -1, "input_map": inputs, "output_map": outputs})
    return {
        "name": ENSEMBLE,
        "platform": "ensemble",
        "max_batch_size": 0,
        "input": tensors([("frame", FRAME)]),
        "output": tensors((f"{name}_answer", ANSWER) for name in spec.nodes),
        "ensemble_scheduling": {"step": steps},
    }


def text_form(message: dict[str, Any], indent: str = "") -> str:
    """Write a message in protobuf's text form. Names of enumerators are the values that begin with TYPE_ or KIND_."""
    lines = []
    for key, value in message.items():
        if isinstance(value, dict) and key in ("input_map", "output_map", "parameters"):
            value = [{"key": name, "value": one} for name, one in value.items()]
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                lines.append(f"{indent}{key} {{\n{text_form(one, indent + ' ')}{indent}}}\n")
            else:
                bare = isinstance(one, int) or one.startswith(("TYPE_", "KIND_"))
                lines.append(f"{indent}{key}: {one if bare else json.dumps(one)}\n")
    return "".join(lines)


def repository(case: Case, folder: Path) -> None:
    """Write the models."""
    spec = case.spec()
    for config in (*(node_config(case, spec, name) for name in spec.nodes), ensemble_config(spec)):
        version = folder / config["name"] / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(text_form(config))
        if "backend" in config:
            (version / "model.py").write_text(MODEL)


def install(folder: Path) -> tuple[Path, dict[str, str]]:
    """Put the backends together; return the server's path and the environment it needs."""
    try:
        server = Path(str(importlib.metadata.distribution("nvidia-pytriton").locate_file("pytriton/tritonserver")))
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeError("nvidia-pytriton is not installed: make bench-peers") from None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise RuntimeError(f"nvidia-pytriton has no Python backend for Python {version}")
    shutil.copytree(server / "backends", folder)
    shutil.copy2(stub, folder / "python")
    libraries = [str(server.parents[1] / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    path = os.pathsep.join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    return server / "bin" / "tritonserver", {**environment(), "LD_LIBRARY_PATH": path}


@contextmanager
def serving(case: Case) -> Iterator[tuple[grpc.InferenceServerClient, int]]:
    """Run the server; give a client and the server's process id."""
    with scratch() as folder:
        repository(case, folder / "models")
        binary, env = install(folder / "backends")
        port = free_port()
        argv = [str(binary), f"--model-repository={folder / 'models'}", f"--backend-directory={folder / 'backends'}"]
        argv += ["--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1", f"--grpc-port={port}"]
        argv += ["--disable-auto-complete-config", "--log-info=false", f"--exit-timeout-secs={STOP_S / 4:.0f}"]
        argv += [f"--backend-config=python,shm-region-prefix-name={folder.name}"]
        log = folder / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                argv, stdout=out, stderr=out, env=env, preexec_fn=die_with_parent, start_new_session=True
            )
        try:
            client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
            wait_until_ready(client, process, log)
            yield client, process.pid
            client.close()
        finally:
            ours = descendants(process.pid)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            end(ours)
            for left in Path("/dev/shm").glob(f"{folder.name}*"):
                left.unlink(missing_ok=True)


def wait_until_ready(client: grpc.InferenceServerClient, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until all models are loaded."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            told = [line for line in log.read_text().splitlines() if line.startswith(("E", "error"))]
            raise RuntimeError(f"tritonserver did not start: {(told or ['no reason given'])[-1]}")
        with suppress(grpc.InferenceServerException):
            if client.is_server_ready(client_timeout=STALL_S):
                return
        time.sleep(0.1)
    raise TimeoutError(f"tritonserver was not ready within {START_S:g} s")


def measure(case: Case, client: grpc.InferenceServerClient, region: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Send frames and join the answers."""
    spec = case.spec()
    size = int(np.prod(shape))
    outputs = [grpc.InferRequestedOutput(f"{node}_answer") for node in spec.nodes]

    def submit(stream: int, place: int, frame: Pixels, done: Done) -> None:
        offset = (stream * case.window + place) * size
        shm.set_shared_memory_region(region, [frame], offset)
        tensor = grpc.InferInput("frame", list(shape), "UINT8")
        tensor.set_shared_memory(name, size, offset)

        def answered(result: Any, error: Any) -> None:
            try:
                if error is not None:
                    raise error
                packed = {node: result.as_numpy(f"{node}_answer").tobytes() for node in spec.nodes}
                done(len(join(spec, {node: msgpack.unpackb(one) for node, one in packed.items()})))
            except BaseException as failure:
                feed.fail(failure)

        client.async_infer(ENSEMBLE, [tensor], answered, outputs=outputs, client_timeout=STALL_S)

    feed = Feed(case, submit)
    return feed.run()


def run(case: Case) -> Score:
    """Measure it."""
    shape = next(frames(case.video)).shape
    size = int(np.prod(shape)) * case.window * case.streams
    with serving(case) as (client, pid):
        name = f"hamspeer{os.getpid()}"
        region = shm.create_shared_memory_region(name, f"/{name}", size)
        try:
            client.register_system_shared_memory(name, f"/{name}", size)
            return measure(case, client, region, name, shape).score(descendants(pid))
        finally:
            shm.destroy_shared_memory_region(region)


if __name__ == "__main__":
    main(run)
