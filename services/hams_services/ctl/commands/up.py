"""Options of `hams-ctl up`, `join` and `demo`; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Devices, Nats, Strategy, check_address
from hams_shared.runtime.options import Credentials


def up(
    device: Devices = None,
    nats: Nats = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Broker port (default: 4222, or a free one); 0: any.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address the broker listens on.")] = "127.0.0.1",
    metrics: Annotated[
        str | None,
        typer.Option(help="Serve metrics for Prometheus on HOST:PORT, as `metrics` does.", callback=check_address),
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option(
            help="Serve groups over HTTP on HOST:PORT, and over gRPC on the next port (127.0.0.1:8000).",
            callback=check_address,
        ),
    ] = None,
    schedulers: Annotated[
        int, typer.Option(min=1, max=5, help="Schedulers to start: one leads, the others stand by.")
    ] = 1,
    optimizer: Annotated[bool, typer.Option(help="Also start an optimizer, for the jobs of `hams-ctl nco`.")] = True,
    secrets: Annotated[
        Path | None,
        typer.Option(help="Folder of `hams-ctl init`: TLS, and only clients with credentials."),
    ] = None,
    web: Annotated[
        str | None, typer.Option(help="Serve the page on HOST:PORT (default: 127.0.0.1:8090, or a free port).")
    ] = None,
    no_web: Annotated[bool, typer.Option("--no-web", help="Start no page.")] = False,
    debug: Debug = False,
) -> None:
    """Start broker, scheduler, pipeline and one agent per device; Ctrl-C stops everything.

    With --nats (or HAMS_NATS_URL) HAMS uses an existing NATS server with JetStream instead of its own.
    """
    from hams_services.ctl.actions import up

    up.up(device, nats, port, host, metrics, gateway, schedulers, optimizer, secrets, web, no_web, debug)


def join(
    nats: Annotated[
        str, typer.Option("--nats", envvar="HAMS_NATS_URL", help="The other box's broker: tls://box1:4222.")
    ],
    credentials: Credentials = None,
    device: Devices = None,
    debug: Debug = False,
) -> None:
    """Serve this box's devices for a HAMS that runs on another box: one agent per device; Ctrl-C stops them.

    Credentials name this box: create them on the other box with `hams-ctl init --box NAME`.
    """
    from hams_services.ctl.actions import up

    up.join(nats, device, debug)


def demo(
    file: Annotated[Path, typer.Argument(help="Group file; its first stream is played once, losslessly.")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for annotated pictures.")] = Path("demo-out"),
    source: Annotated[
        str | None, typer.Option(help="Play this instead of the group's first stream: a video, an image or a folder.")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", "-d", help="A device to serve, as of `up`; repeat for more. Default: two, see above."),
    ] = None,
    strategy: Strategy = None,
    debug: Debug = False,
) -> None:
    """Show the main job: start everything, measure, place, play a stream to its end, report, stop.

    The default devices are OpenVINO on core 0 and ONNX Runtime on core 1. The exit code is 0 only if every frame is
    accounted for and something was found.
    """
    from hams_services.ctl.actions.demo import demo as run

    run(file, out_dir, source, device, strategy, debug)
