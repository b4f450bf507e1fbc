"""``python -m benchmarks.gateway [GROUP.yaml]``: one image of 100 KB through NATS and through the gateway, in turns.

The same images, the same number under way at a time, in the same run: NATS (`hams_client`), REST, KServe over HTTP and
over gRPC, one after the other in each round, in an order that turns. The clients are lean, so that the gateway is seen:
requests are made once, and answers are read and not decoded. CPU time of each part is noted. Default: a group of one
small network.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from statistics import median

import cv2
import grpc.aio
import numpy as np
import yaml
from onnx import TensorProto, helper, save_model

from benchmarks.check.turn import processes
from benchmarks.serving.hams import System, end_with_parent
from hams_client import connect
from hams_services.gateway.kserve.messages import MESSAGES, SERVICE

KILOBYTES = 100
WARM_S = 1.0
Once = Callable[[], Awaitable[None]]


def image(size: tuple[int, int]) -> bytes:
    """A JPEG of 100 KB: a rough picture with as much noise as it takes."""
    random = np.random.default_rng(0)
    rough = cv2.resize(random.integers(40, 216, (9, 16, 3)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    grain = random.normal(0, 1, (size[1], size[0], 1))
    least, most = 0.0, 200.0
    for _ in range(20):
        noise = (least + most) / 2
        picture = np.clip(rough + noise * grain, 0, 255).astype(np.uint8)
        jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        least, most = (noise, most) if len(jpeg) < KILOBYTES * 1000 else (least, noise)
    return jpeg


def small_group(folder: Path) -> Path:
    """A group of one network that costs almost nothing."""
    mean = helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0)
    one = helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=1)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph([mean, one], "brightness", inputs, outputs)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "n.onnx")
    node = {"model": str(folder / "n.onnx"), "input": {"size": [8, 8]}, "task": {"type": "regression"}}
    spec = {"name": "bench", "nodes": {"light": node}, "streams": {"s0": {"source": "push"}}}
    (folder / "bench.yaml").write_text(yaml.safe_dump(spec))
    return folder / "bench.yaml"


class Http:
    """One connection; requests are bytes that were made before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        self._reader, self._writer, self._request = reader, writer, request

    async def once(self) -> None:
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r")[0])
        assert await self._reader.readexactly(length)


def rest(group: str, jpeg: bytes, address: str) -> bytes:
    head = f"POST /v1/groups/{group}/infer HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/jpeg\r\n"
    return f"{head}Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg


def kserve(group: str, jpeg: bytes, address: str) -> bytes:
    size = {"binary_data_size": len(jpeg) + 4}
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": size}
    ask = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = ask + struct.pack("<I", len(jpeg)) + jpeg
    head = f"POST /v2/models/{group}/infer HTTP/1.1\r\nHost: {address}\r\n"
    return f"{head}Inference-Header-Content-Length: {len(ask)}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def message(group: str, jpeg: bytes) -> bytes:
    request = MESSAGES["ModelInferRequest"](model_name=group)
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(struct.pack("<I", len(jpeg)) + jpeg)
    made = request.SerializeToString()
    assert isinstance(made, bytes)
    return made


async def ways(
    stack: AsyncExitStack, url: str, ports: tuple[int, int], group: str, jpeg: bytes, clients: int
) -> dict[str, list[Once]]:
    """Return `clients` of each way, connected."""
    hams = await stack.enter_async_context(connect(url))
    found: dict[str, list[Once]] = {name: [] for name in ("nats", "rest", "kserve-http", "kserve-grpc")}

    async def by_nats() -> None:
        await hams.infer(group, jpeg)

    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}"))
    call, request = channel.unary_unary(f"/{SERVICE}/ModelInfer"), message(group, jpeg)

    async def by_grpc() -> None:
        assert await call(request)

    for _ in range(clients):
        found["nats"].append(by_nats)
        found["kserve-grpc"].append(by_grpc)
        for name, make in (("rest", rest), ("kserve-http", kserve)):
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[0], limit=1 << 20)
            stack.callback(writer.close)
            found[name].append(Http(reader, writer, make(group, jpeg, f"127.0.0.1:{ports[0]}")).once)
    return found


async def rate(clients: list[Once], seconds: float) -> tuple[float, int]:
    """Return images/s, and how many, with all clients at work for so long."""
    begun = time.perf_counter()
    end, done = begun + seconds, 0

    async def work(once: Once) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await once()
            done += 1

    await asyncio.gather(*map(work, clients))
    return done / (time.perf_counter() - begun), done


def cpu(top: int, gateway: int) -> dict[str, float]:
    """CPU seconds so far of each part; this process is the client."""
    found: dict[str, float] = {"client": time.process_time()}
    for roots, name in ((top, ""), (gateway, "gateway")):
        for part, seconds in processes(roots).values():
            found[name or part] = found.get(name or part, 0.0) + seconds
    return found


@contextmanager
def gateway(url: str) -> Iterator[tuple[int, tuple[int, int]]]:
    """Run a gateway; give its process and ports."""
    argv = [sys.executable, "-m", "hams_services.gateway", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with subprocess.Popen(
        [*argv, "--nats", url], stderr=subprocess.PIPE, text=True, preexec_fn=end_with_parent
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "is ready" in line:
                break
        else:
            raise SystemExit("the gateway did not start")
        http, rpc = map(int, re.findall(r"127\.0\.0\.1:(\d+)", line))
        try:
            yield process.pid, (http, rpc)
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.close()


async def measure(options: argparse.Namespace, url: str, top: int, group: str, jpeg: bytes) -> None:
    """Print what each way gives."""
    with gateway(url) as (pid, ports):
        async with AsyncExitStack() as stack:
            found = await ways(stack, url, ports, group, jpeg, options.clients)
            rates: dict[str, list[float]] = {name: [] for name in found}
            costs: dict[str, list[dict[str, float]]] = {name: [] for name in found}
            for clients in found.values():
                await rate(clients, WARM_S)
            for turn in range(options.rounds):
                names = list(found)
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    before = cpu(top, pid)
                    per_second, done = await rate(found[name], options.seconds)
                    after = cpu(top, pid)
                    rates[name].append(per_second)
                    costs[name].append({p: (s - before.get(p, 0.0)) / done * 1e3 for p, s in after.items()})
    show(rates, costs)


def show(rates: dict[str, list[float]], costs: dict[str, list[dict[str, float]]]) -> None:
    """Print the table."""
    parts = sorted({part for runs in costs.values() for one in runs for part in one})
    print(f"| way | images/s, median | of NATS, paired: median (least–most) | CPU ms an image: {', '.join(parts)} |")
    print("|---|---|---|---|")
    for name, runs in rates.items():
        ratios = [mine / nats for mine, nats in zip(runs, rates["nats"], strict=True)]
        spent = ", ".join(f"{median(one.get(part, 0.0) for one in costs[name]):.2f}" for part in parts)
        share = f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {name} | {median(runs):.0f} | {share} | {spent} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", nargs="?", type=Path)
    parser.add_argument("--clients", type=int, default=4, help="images under way at a time")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--device", action="append", default=[])
    options = parser.parse_args()
    width, _, height = options.size.partition("x")
    jpeg = image((int(width), int(height)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("HAMS_HOME", f"{folder}/home")
        file = options.group or small_group(Path(folder))
        with System(options.device or ["openvino:CPU@0"]) as system:
            system.ctl("deploy", str(file))
            group = yaml.safe_load(file.read_text())["name"]
            print(f"{len(jpeg)} bytes, {options.size}, {options.clients} under way, {options.rounds} rounds")
            asyncio.run(measure(options, system.url, system.process.pid, group, jpeg))


if __name__ == "__main__":
    main()
