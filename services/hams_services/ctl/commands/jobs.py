"""Options of the `hams-ctl nco` commands that hand work to the optimizer; what they do is in `actions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.commands.nco import nco
from hams_services.ctl.options import Debug, Json, Nats

__all__ = ["nco"]

Group = Annotated[str, typer.Argument(help="Name of a deployed group.")]
Frames = Annotated[int, typer.Option(min=3, max=10_000, help="Frames to take from the group's streams.")]
Wait = Annotated[bool, typer.Option(help="Wait until it is done; Ctrl-C leaves it running.")]


@nco.command()
def optimize(
    group: Group,
    frames: Frames = 120,
    samples: Annotated[Path | None, typer.Option(help="A folder of frames instead, on the optimizer's host.")] = None,
    budget: Annotated[float, typer.Option(min=1, help="Time limit of the whole job, s.")] = 900.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Take new frames; make and measure variants again.")] = False,
    wait: Wait = True,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Make variants of a group's networks, compare and measure them all; the scheduler then uses the best.

    The job takes frames from the group's streams (or --samples) and makes variants for each runtime and precision. Each
    is compared with its source by the node's own post-processing. Every device measures those that reach the floor.
    """
    from hams_services.ctl.actions import jobs

    jobs.optimize(group, frames, samples, budget, fresh, wait, json, nats, debug)


@nco.command()
def calibrate(
    group: Group,
    frames: Frames = 300,
    wait: Wait = True,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Take frames from a group's own streams, for `optimize` to calibrate and compare with."""
    from hams_services.ctl.actions import jobs

    jobs.calibrate(group, frames, wait, json, nats, debug)


@nco.command()
def train(
    group: Group,
    node: Annotated[str, typer.Argument(help="The node to train a smaller network for.")],
    gflops: Annotated[float, typer.Option(min=0, help="The student's budget, 10⁹ operations an image.")] = 0.0,
    fps: Annotated[float, typer.Option(min=0, help="Images/s to reach on --device, instead of --gflops.")] = 0.0,
    device: Annotated[str, typer.Option("--device", "-d", help="A device of the optimizer's host.")] = "openvino:CPU",
    labels: Annotated[
        Path | None, typer.Option(help="Train on a folder with labels.json instead of on the outputs of the network.")
    ] = None,
    samples: Annotated[Path | None, typer.Option(help="A folder of frames instead of the group's streams.")] = None,
    frames: Annotated[int, typer.Option(min=20, max=10_000, help="Frames to take from the streams.")] = 300,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs; training may stop early.")] = 200,
    budget: Annotated[float, typer.Option(min=1, help="No epoch starts after so many seconds.")] = 600.0,
    wait: Wait = True,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Train a small network on the outputs of a node's network; it serves where it reaches the floor.

    Checkpoints are kept after each epoch: a run that was stopped, or killed, continues when the command is repeated.
    """
    if not gflops and not fps:
        raise typer.BadParameter("give --gflops, or --fps with --device")
    from hams_services.ctl.actions import jobs

    jobs.train(group, node, gflops, fps, device, labels, samples, frames, epochs, budget, wait, json, nats, debug)


@nco.command()
def jobs(json: Json = False, nats: Nats = None, debug: Debug = False) -> None:
    """Show the optimizer's jobs, newest first."""
    from hams_services.ctl.actions import jobs

    jobs.jobs(json, nats, debug)


@nco.command()
def report(
    group: Group,
    json: Json = False,
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Print the report of a group's newest optimization."""
    from hams_services.ctl.actions import jobs

    jobs.report(group, json, nats, debug)


@nco.command()
def cancel(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="Its id in `hams-ctl nco jobs`.")],
    nats: Nats = None,
    debug: Debug = False,
) -> None:
    """Cancel a job; variants made so far are kept."""
    from hams_services.ctl.actions import jobs

    jobs.cancel(job_id, nats, debug)
