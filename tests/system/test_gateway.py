"""The gateway in a process of its own: tritonclient over HTTP and gRPC, tokens, TLS, hostile clients, a clean end."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("grpc", reason="needs hams[gateway]")
pytest.importorskip("starlette", reason="needs hams[gateway]")

import grpc

from hams_client import sync
from hams_services.gateway.kserve.messages import MESSAGES, SERVICE
from hams_services.security import certificates
from support.grey import STEP, group_file, picture
from support.ports import free_port
from support.up import Up
from support.wait import until_sync

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, int]]:
    """A group that tells how bright an image is, and a gateway that `hams-ctl up` started."""
    folder = tmp_path_factory.mktemp("gateway")
    port = free_port(1)
    with Up(folder / "home", "openvino:CPU@0", options=("--gateway", f"127.0.0.1:{port}", "--no-optimizer")) as up:
        assert f"gateway: http://127.0.0.1:{port}, gRPC at 127.0.0.1:{port + 1}" in up.output()
        up.ctl("deploy", group_file(folder, "push"))
        yield up, port


def jpeg(number: int) -> bytes:
    return cv2.imencode(".jpg", picture(number))[1].tobytes()


def lights(objects: Any) -> list[float]:
    return [json.loads(one)[0]["light"]["value"] for one in objects]


@contextmanager
def triton(kind: str, system: tuple[Up, int]) -> Iterator[tuple[Any, Any]]:
    """A client of Triton's and its module."""
    module = pytest.importorskip(f"tritonclient.{kind}", reason="needs tritonclient[http,grpc]")
    client = module.InferenceServerClient(f"127.0.0.1:{system[1] + (kind == 'grpc')}")
    try:
        yield client, module
    finally:
        client.close()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritonclient(system: tuple[Up, int], kind: str) -> None:
    with triton(kind, system) as (client, module):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("grey")
        assert client.is_model_ready("grey", "1")
        told = client.get_model_metadata("grey")
        name = (lambda one: one["name"]) if kind == "http" else (lambda one: one.name)
        known = (told["inputs"], told["outputs"]) if kind == "http" else (told.inputs, told.outputs)
        assert [[name(one) for one in part] for part in known] == [
            ["image"],
            ["objects", "counts", "boxes", "scores", "labels"],
        ]
        assert name(client.get_server_metadata()) == "hams"
        client.get_model_repository_index()

        encoded = module.InferInput("image", [3], "BYTES")
        encoded.set_data_from_numpy(np.array([jpeg(n) for n in (5, 20, 33)], object))
        answer = client.infer("grey", [encoded], request_id="a7")
        assert lights(answer.as_numpy("objects")) == pytest.approx([5 * STEP, 20 * STEP, 33 * STEP], abs=1)
        assert answer.as_numpy("boxes").tolist() == [[0, 0, 640, 480]] * 3
        assert answer.as_numpy("counts").tolist() == [1, 1, 1]
        assert answer.as_numpy("labels").tolist() == [b"frame"] * 3

        for pixels in (picture(30), np.stack([picture(30), picture(31)])):
            raw = module.InferInput("image", pixels.shape, "UINT8")
            raw.set_data_from_numpy(pixels)
            answer = client.infer("grey", [raw], outputs=[module.InferRequestedOutput("objects")])
            assert lights(answer.as_numpy("objects"))[0] == pytest.approx(30 * STEP, abs=1)
            assert answer.as_numpy("boxes") is None


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_mistakes_of_tritonclient_are_named(system: tuple[Up, int], kind: str) -> None:
    from tritonclient.utils import InferenceServerException

    bytes_ = np.array([b"no image"], object)
    cases: list[tuple[str, str, Any, str, str, str]] = [
        ("nobody", "BYTES", bytes_, "404", "NOT_FOUND", "nobody is not deployed"),
        ("grey", "BYTES", bytes_, "400", "INVALID_ARGUMENT", "not an image"),
        ("grey", "UINT8", picture(1)[:, :, :1].copy(), "400", "INVALID_ARGUMENT", "shape [480, 640, 1]"),
        ("grey", "FP32", np.zeros((4, 4, 3), np.float32), "400", "INVALID_ARGUMENT", "datatype FP32"),
    ]
    with triton(kind, system) as (client, module):
        for group, datatype, value, status, code, text in cases:
            tensor = module.InferInput("image", value.shape, datatype)
            tensor.set_data_from_numpy(value)
            with pytest.raises(InferenceServerException) as failed:
                client.infer(group, [tensor])
            assert failed.value.status() in (status, f"StatusCode.{code}")
            assert text in failed.value.message()
        for call in (lambda: client.get_model_metadata("nobody"), lambda: client.get_model_metadata("grey", "9")):
            with pytest.raises(InferenceServerException):
                call()


def test_more_of_tritonclient(system: tuple[Up, int]) -> None:
    """Compressed requests, and images as base64 in JSON; the stream of gRPC."""
    with triton("http", system) as (client, module):
        packed = module.InferInput("image", [1], "BYTES")
        packed.set_data_from_numpy(np.array([jpeg(5)], object))
        for name in ("gzip", "deflate"):
            answer = client.infer("grey", [packed], request_compression_algorithm=name)
            assert lights(answer.as_numpy("objects")) == pytest.approx([5 * STEP], abs=1)
        text = module.InferInput("image", [1], "BYTES")
        text.set_data_from_numpy(np.array([base64.b64encode(jpeg(6))], object), binary_data=False)
        wanted = module.InferRequestedOutput("objects", binary_data=False)
        assert lights(client.infer("grey", [text], outputs=[wanted]).as_numpy("objects")) == pytest.approx([24], abs=1)
    with triton("grpc", system) as (client, module):
        answers: list[tuple[Any, Any]] = []
        client.start_stream(callback=lambda result, error: answers.append((result, error)))
        for number, group in enumerate(("grey", "nobody", "grey")):
            raw = module.InferInput("image", picture(number).shape, "UINT8")
            raw.set_data_from_numpy(picture(number))
            client.async_stream_infer(group, [raw], request_id=str(number))
        until_sync(lambda: len(answers) == 3, 30)
        client.stop_stream()
        assert [error is None for _, error in answers] == [True, False, True]
        assert "nobody is not deployed" in str(answers[1][1])
        assert answers[2][0].get_response().id == "2"


def call(port: int, name: str, data: bytes, **options: Any) -> bytes:
    """Call a method with bytes as they are."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        answer = channel.unary_unary(f"/{SERVICE}/{name}")(data, timeout=60, **options)
        assert isinstance(answer, bytes)
        return answer


def test_hostile_calls_of_grpc_get_a_status(system: tuple[Up, int]) -> None:
    up, port = system
    gateway = up.pid_of("hams_services.gateway")
    random = np.random.default_rng(2)
    request = MESSAGES["ModelInferRequest"](model_name="grey", raw_input_contents=[b"\x03\0\0\0abc"])
    request.inputs.add(name="image", datatype="BYTES", shape=[1])
    whole = request.SerializeToString()
    seen = set()
    with grpc.insecure_channel(f"127.0.0.1:{port + 1}") as channel:
        method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        for _ in range(500):
            data = bytearray(whole)
            for at in random.integers(0, len(data), random.integers(1, 5)):
                data[at] = random.integers(0, 256)
            with pytest.raises(grpc.RpcError) as failed:
                method(bytes(data), timeout=60)
            seen.add(failed.value.code().name)
    assert seen <= {"INVALID_ARGUMENT", "NOT_FOUND"}, seen
    for data, options, code in (
        (bytes(40 << 20), {}, "RESOURCE_EXHAUSTED"),
        (bytes(300 << 20), {"compression": grpc.Compression.Gzip}, "UNIMPLEMENTED"),
        (b"", {"metadata": [("x", "y" * 100_000)]}, "RESOURCE_EXHAUSTED"),
    ):
        with pytest.raises(grpc.RpcError) as failed:
            call(port + 1, "ModelInfer", data, **options)
        assert failed.value.code().name == code
    with pytest.raises(grpc.RpcError) as failed:
        call(port + 1, "NoMethod", b"")
    assert failed.value.code().name == "UNIMPLEMENTED"
    assert call(port + 1, "ServerReady", b"") == MESSAGES["ServerReadyResponse"](ready=True).SerializeToString()
    assert up.pid_of("hams_services.gateway") == gateway
    assert "Traceback" not in (up.home / "logs" / "gateway.log").read_text()


def http_once(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_hostile_bodies_of_http_get_an_error(system: tuple[Up, int]) -> None:
    up, port = system
    gateway = up.pid_of("hams_services.gateway")
    path = "/v1/groups/grey/infer"
    packed = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packed.compress(bytes(1 << 20)) for _ in range(400)) + packed.flush()
    assert http_once(port, "POST", path, bomb, **{"Content-Encoding": "gzip"})[0] == 413
    assert http_once(port, "POST", path, b"x" * 100)[1]["code"] == "bad-source"
    status = Path(f"/proc/{gateway}/status").read_text()
    assert int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 600 << 10  # type: ignore[index]  # KiB
    with socket.create_connection(("127.0.0.1", port)) as cut:
        cut.sendall(b"POST /v1/groups/grey/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc")
    assert http_once(port, "POST", path, jpeg(5))[0] == 200
    assert up.pid_of("hams_services.gateway") == gateway
    assert "Traceback" not in (up.home / "logs" / "gateway.log").read_text()


def test_results_over_real_sockets(system: tuple[Up, int]) -> None:
    websockets = pytest.importorskip("websockets.asyncio.client", reason="needs hams[gateway]")
    up, port = system

    async def follow() -> list[int]:
        async with websockets.connect(f"ws://127.0.0.1:{port}/v1/groups/grey/results/ws") as socket_:
            events = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            events.request("GET", "/v1/groups/grey/results")
            answer = events.getresponse()
            assert answer.read(13) == b"retry: 3000\n\n"
            await asyncio.to_thread(push)
            async with asyncio.timeout(60):
                frames = [json.loads(await socket_.recv())["frame"] for _ in range(3)]
            assert b"id: s0/" in answer.read1(4000)
            answer.close()
            events.close()
            return frames

    def push() -> None:
        with sync.connect(up.url) as hams:
            for number in range(3):
                hams.push("grey", "s0", picture(number))

    frames = asyncio.run(follow())
    assert frames == list(range(frames[0], frames[0] + 3))


@contextmanager
def gateway(up: Up, *options: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A gateway of our own; its process, and the ports of HTTP and gRPC."""
    argv = [sys.executable, "-m", "hams_services.gateway", "--nats", up.url, *options]
    argv += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with subprocess.Popen(argv, env={**up.env, **env}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = ""
        for line in process.stderr:
            lines += line
            if "is ready" in line:
                break
        else:
            raise AssertionError(lines)
        first, second = map(int, re.findall(r"127\.0\.0\.1:(\d+)", line))
        try:
            yield process, first, second
        finally:
            process.kill()


def test_tokens_made_and_removed_while_it_runs(system: tuple[Up, int], tmp_path: Path) -> None:
    up, _ = system
    file = tmp_path / "tokens.json"
    app = up.ctl("token", "add", "door", "--role", "app", "--tokens", file).strip()
    viewer = up.ctl("token", "add", "wall", "--expires", "30d", "--tokens", file).strip()
    with gateway(up, "--tokens", str(file)) as (_, port, rpc):
        path = "/v1/groups/grey/infer"
        for token, status in (("", 401), (viewer, 403), (app, 200)):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            assert http_once(port, "POST", path, jpeg(1), **headers)[0] == status
        ask = MESSAGES["ModelMetadataRequest"](name="grey").SerializeToString()
        infer = MESSAGES["ModelInferRequest"](model_name="grey").SerializeToString()
        for name, data, token, code in (
            ("ModelMetadata", ask, "", "UNAUTHENTICATED"),
            ("ModelInfer", infer, viewer, "PERMISSION_DENIED"),
            ("ModelInfer", infer, app, "INVALID_ARGUMENT"),
        ):
            with pytest.raises(grpc.RpcError) as failed:
                call(rpc, name, data, metadata=[("authorization", f"Bearer {token}")] if token else [])
            assert failed.value.code().name == code
        assert call(rpc, "ModelMetadata", ask, metadata=[("authorization", f"Bearer {viewer}")])
        up.ctl("token", "remove", "door", "--tokens", file)
        assert http_once(port, "POST", path, jpeg(1), Authorization=f"Bearer {app}")[0] == 401
        assert app not in file.read_text()
    listed = up.ctl("token", "list", "--tokens", file)
    assert "wall" in listed
    assert "door" not in listed


def test_it_refuses_other_machines_without_tokens(system: tuple[Up, int]) -> None:
    up, _ = system
    argv = [sys.executable, "-m", "hams_services.gateway", "--nats", up.url, "--http", "0.0.0.0:0"]
    done = subprocess.run(argv, env=up.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "can be reached from other machines, and no tokens are set" in done.stderr
    assert "Traceback" not in done.stderr
    other = {**up.env, "HAMS_HOME": str(up.home / "other")}
    argv = [sys.executable, "-m", "hams_services.ctl", "up", "--gateway", "0.0.0.0:8000", "--device", "openvino:CPU@0"]
    done = subprocess.run(argv, env=other, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "--gateway 0.0.0.0 can be reached" in done.stderr
    argv[5] = f"127.0.0.1:{system[1]}"
    done = subprocess.run(argv, env=other, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"--gateway: port {system[1]} on 127.0.0.1 is in use" in done.stderr


def test_tls(system: tuple[Up, int], tmp_path: Path) -> None:
    up, _ = system
    certificate, key, authority = issue(tmp_path)
    with gateway(up, "--tls-cert", str(certificate), "--tls-key", str(key)) as (_, port, rpc):
        context = ssl.create_default_context(cafile=authority)
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
        connection.request("POST", "/v1/groups/grey/infer", jpeg(5))
        assert json.loads(connection.getresponse().read())["objects"][0]["light"]["value"] == pytest.approx(20, abs=1)
        connection.close()
        with grpc.secure_channel(f"127.0.0.1:{rpc}", grpc.ssl_channel_credentials(authority.read_bytes())) as channel:
            assert channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=60)
        check = [sys.executable, "-m", "hams_shared.healthcheck", "gateway"]
        for address, code in ((f"127.0.0.1:{port}", 0), ("127.0.0.1:1", 6)):
            env = {**up.env, "HAMS_GATEWAY_HTTP": address}
            done = subprocess.run(check, env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == code, done.stderr


def issue(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate for this machine, its key, and the authority."""
    now = datetime.now(UTC)
    key, own = certificates.new_key(), certificates.new_key()
    authority = certificates.authority(key, now)
    paths = folder / "c.pem", folder / "k.pem", folder / "a.pem"
    made = certificates.broker(own, authority, key, ["127.0.0.1", "localhost"], now)
    for path, text in zip(paths, (made, own, authority), strict=True):
        path.write_bytes(text)
    return paths


def test_sigterm_lets_what_is_under_way_end(system: tuple[Up, int]) -> None:
    up, _ = system
    with gateway(up) as (process, port, _):
        following = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        following.request("GET", "/v1/groups/grey/results")
        stream = following.getresponse()
        assert stream.status == 200
        body = jpeg(5)
        assert http_once(port, "GET", "/v2/health/live")[0] == 200
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"POST /v1/groups/grey/infer HTTP/1.1\r\nHost: localhost\r\n")
            half.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body[:100])
            process.send_signal(signal.SIGTERM)
            assert stream.read().startswith(b"retry: 3000")  # to its end
            half.sendall(body[100:])
            answer = half.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 200")
        stream.close()
        following.close()
        assert process.wait(60) == 0
