"""``hams-agent``: serves one device until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hams_shared.runtime.lifecycle import report, run, setup_logging
from hams_shared.runtime.options import DEFAULT_NATS, Cache, Credentials, Debug, Host, Nats
from hams_shared.runtime.process import cache_folder, host_name

CONFINED = ("openvino", "onnxruntime", "litert", "emulated")
"""Backends of which it is known what they write."""
SWITCH_S = 0.0005
"""Longest time a thread that decodes may keep Python's lock from the one that computes, s; Python's own is 5 ms."""


def command(
    device: Annotated[
        str,
        typer.Option(
            help="BACKEND:TARGET: openvino:CPU@0 · openvino:GPU.1 · openvino:NPU · onnxruntime:CUDA:0 · "
            "onnxruntime:TensorRT:0 · onnxruntime:WebGpu:0 · emulated:PROFILE.yaml · one of a plug-in; "
            "@CORES pins the process."
        ),
    ],
    nats: Nats = DEFAULT_NATS,
    credentials: Credentials = None,
    cache: Cache = None,
    host: Host = None,
    debug: Debug = False,
) -> None:
    """Run the agent of one device: measures models on it, loads what plans give it, serves its nodes."""
    setup_logging("agent", debug=debug)
    raise typer.Exit(_serve(device, nats, cache or cache_folder(), host or host_name(), debug=debug))


def _serve(device: str, nats: str, cache: Path, host: str, *, debug: bool) -> int:
    """Pin the process, then serve; return the exit code. Runtimes are imported after that."""
    from hams_agents.cpus import here
    from hams_agents.devices import parse, pin, pin_thread
    from hams_shared.errors import HamsError
    from hams_shared.runtime.credentials import check_box, of_environment
    from hams_shared.wire.subjects import token

    try:
        identity = of_environment()
        check_box(identity, token(host))
        spec = parse(device)
        everywhere = here().allowed  # asked before it is pinned
        pin(spec.cores)  # before any runtime starts its threads
        confine_writing(spec.backend, cache)
    except HamsError as error:
        return report(error)

    async def serve(stop: asyncio.Event) -> None:
        from hams_agents.backends.registry import open_backend
        from hams_agents.runtime.presence import device_file, until_there
        from hams_agents.service import NOTES, AgentService
        from hams_shared.bus.nats.client import NatsBus

        sys.setswitchinterval(SWITCH_S)
        await until_there(cache / NOTES, spec.device_id(host), stop)
        if stop.is_set():
            return
        backend = await asyncio.to_thread(open_backend, spec, cache)
        pin_thread(everywhere)  # the device computes on its cores; messages are handled wherever there is time
        profiles = identity is None or not identity.box  # a box's agents may write their own device only
        agent: AgentService
        away, back = (lambda: agent.on_disconnect()), (lambda: agent.on_reconnect())
        async with NatsBus(nats, name=f"hams-agent {device}", on_disconnect=away, on_reconnect=back) as bus:
            pin_device = partial(pin_thread, spec.cores)
            file = device_file(spec)
            agent = AgentService(bus, backend, host, cache, pin_device, may_write_profiles=profiles, device_file=file)
            await agent.run(stop)

    return run(serve, debug=debug)


def confine_writing(backend: str, cache: Path) -> bool:
    """Let this process and its children write only to the cache, to temporary files and to devices, for good.

    Return whether it is so. What other backends' drivers write nobody knows: their agents are not confined, nor any
    where HAMS_CONFINE is ``off`` or the kernel has no Landlock. Reading and connecting stay free: docs/security.md.
    """
    from hams_shared.runtime.confine import confine

    if os.environ.get("HAMS_CONFINE", "").lower() == "off" or backend not in CONFINED:
        return False
    with suppress(OSError):  # named when a model is stored
        cache.mkdir(parents=True, exist_ok=True)
    own = (Path.home() / ".cache", Path.home() / ".nv")  # of drivers: compiled kernels
    return confine([cache, tempfile.gettempdir(), "/dev", "/proc/self", *own], sockets=True)


def main() -> None:
    """Entry point."""
    typer.run(command)


if __name__ == "__main__":
    main()
