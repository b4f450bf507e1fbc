"""Options of `hams-ctl nco` commands on files; what they do is in `actions`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json
from hams_shared.runtime.limits import Limits

nco = typer.Typer(no_args_is_help=True, help="The neural computing optimizer: import, quantise, compare networks.")

GroupFile = Annotated[Path, typer.Argument(help="The group file.")]
Node = Annotated[str, typer.Argument(help="One of its nodes.")]
Samples = Annotated[Path, typer.Option(help="A folder of images as the node sees them; a third is held back.")]
Device = Annotated[str | None, typer.Option("--device", "-d", help="Where to measure, e.g. openvino:CPU@1.")]
Frames = Annotated[int, typer.Option(min=1, max=10_000, help="Most samples to look at.")]
Budget = Annotated[float, typer.Option(min=1, help="Nothing new is tried after so many seconds.")]
Memory = Annotated[int, typer.Option("--memory", min=256, help="What the tools may use, MiB.")]
Floor = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Least agreement with the source (default: the node's min_agreement)."),
]


class QuantizeScope(StrEnum):
    """For the command line; see :data:`hams_services.optimizer.passes.quantization.trials.SCOPES`."""

    all = "all"
    layers = "layers"


class PlainPrecision(StrEnum):
    """For the command line: what needs no calibration."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class Batch(StrEnum):
    """For the command line."""

    dynamic = "dynamic"
    static = "static"


@nco.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="ONNX, OpenVINO IR, TFLite, TensorFlow, Paddle or PyTorch.")],
    shape: Annotated[str | None, typer.Option(help="Of one image, batch first; TorchScript does not say it.")] = None,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read a network of any known format and make of it what each runtime reads."""
    from hams_services.ctl.actions import nco

    nco.import_file(file, shape, memory, json, debug)


@nco.command()
def quantize(
    file: GroupFile,
    node: Node,
    samples: Samples,
    floor: Floor = None,
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Most samples to calibrate with.")] = 100,
    compute: Annotated[str, typer.Option(help="What layers that are not quantised compute in: f32 or bf16.")] = "",
    scope: Annotated[
        QuantizeScope | None, typer.Option(help="What is quantised; both are tried when nothing is said.")
    ] = None,
    device: Device = None,
    budget: Annotated[
        float, typer.Option(min=1, help="Nothing new is tried after so many seconds, per runtime.")
    ] = 300,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make INT8 variants of a node's network; where they miss the floor, its worst layers stay in higher precision."""
    from hams_services.ctl.actions import nco

    nco.quantize(
        file, node, samples, floor, frames, compute, scope.value if scope else None, device, budget, memory, json, debug
    )


@nco.command()
def prune(
    file: GroupFile,
    node: Node,
    samples: Samples,
    floor: Floor = None,
    frames: Frames = 100,
    device: Device = None,
    budget: Budget = 300,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a node's network narrower: channels go that can best be done without, as many as the floor allows."""
    from hams_services.ctl.actions import nco

    nco.less("pruned", file, node, samples, floor, frames, device, budget, memory, json, debug)


@nco.command()
def shrink(
    file: GroupFile,
    node: Node,
    samples: Samples,
    floor: Floor = None,
    frames: Frames = 100,
    device: Device = None,
    budget: Budget = 300,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Let a node's network look at a smaller image, as small as the floor allows, where it says no places in it."""
    from hams_services.ctl.actions import nco

    nco.less("shrunk", file, node, samples, floor, frames, device, budget, memory, json, debug)


@nco.command()
def rectangle(
    file: GroupFile,
    node: Node,
    samples: Samples,
    floor: Floor = None,
    frames: Frames = 100,
    device: Device = None,
    budget: Budget = 300,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Let a node's network look at the part of its letterboxed image that the samples fill, not at the padding."""
    from hams_services.ctl.actions import nco

    nco.less("rectangular", file, node, samples, floor, frames, device, budget, memory, json, debug)


@nco.command()
def convert(
    file: GroupFile,
    node: Node,
    precision: Annotated[
        PlainPrecision, typer.Option(help="fp16: weights; bf16: what it is computed in, OpenVINO only.")
    ] = PlainPrecision.fp32,
    batch: Annotated[Batch | None, typer.Option(help="Images at once: any number, or one.")] = None,
    embed: Annotated[bool, typer.Option("--embed", help="Put the node's pre-processing into the network.")] = False,
    samples: Annotated[Path | None, typer.Option(help="Compare it with its source on this folder's images.")] = None,
    device: Device = None,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make variants of a node's network that need no calibration: precision, batch, pre-processing."""
    from hams_services.ctl.actions import nco

    nco.convert(file, node, precision.value, batch.value if batch else "", embed, samples, device, memory, json, debug)


@nco.command()
def variants(
    file: Annotated[Path, typer.Argument(help="A group file, or a network's file.")],
    floor: Floor = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the variants of a group's networks, or of one network, and how nearly each agrees with its source."""
    from hams_services.ctl.actions import nco

    nco.variants(file, floor, json, debug)
