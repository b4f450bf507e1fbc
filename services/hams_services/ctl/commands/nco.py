"""Options of `hams-ctl nco` commands on files; what they do is in `actions`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hams_services.ctl.options import Debug, Json
from hams_shared.runtime.child_limits import Limits

nco = typer.Typer(no_args_is_help=True, help="The neural computing optimizer: import, quantise, compare networks.")

GroupFile = Annotated[Path, typer.Argument(help="The group file.")]
Node = Annotated[str, typer.Argument(help="One of its nodes.")]
Samples = Annotated[Path, typer.Option(help="A folder of images as the node gets them; a third is the hold-out set.")]
Device = Annotated[str | None, typer.Option("--device", "-d", help="Where to measure, e.g. openvino:CPU@1.")]
Frames = Annotated[int, typer.Option(min=1, max=10_000, help="Most samples to calibrate with.")]
Budget = Annotated[float, typer.Option(min=1, help="Nothing new is tried after so many seconds.")]
Memory = Annotated[int, typer.Option("--memory", min=256, help="What the tools may use, MiB.")]
Floor = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Least agreement with the source (default: the node's min_agreement)."),
]


class QuantizeScope(StrEnum):
    """For the command line; see :data:`hams_services.optimizer.passes.quantization.SCOPES`."""

    all = "all"
    layers = "layers"


class Compute(StrEnum):
    """For the command line: what layers that are not quantised compute in."""

    fp32 = "fp32"
    bf16 = "bf16"


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
    shape: Annotated[str | None, typer.Option(help="Shape of one image, batch first; TorchScript has none.")] = None,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Import a network of any known format in the formats of each runtime."""
    from hams_services.ctl.actions import nco

    nco.import_file(file, shape, memory, json, debug)


@nco.command()
def quantize(
    file: GroupFile,
    node: Node,
    samples: Samples,
    floor: Floor = None,
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Most samples to calibrate with.")] = 100,
    compute: Annotated[
        Compute | None,
        typer.Option(help="What layers in higher precision compute in (default: as the device likes)."),
    ] = None,
    scope: Annotated[QuantizeScope | None, typer.Option(help="What is quantised (default: both are tried).")] = None,
    device: Device = None,
    budget: Annotated[
        float, typer.Option(min=1, help="Nothing new is tried after so many seconds, per runtime.")
    ] = 300,
    memory: Memory = Limits.memory_mib,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make INT8 variants of a node's network; where they miss the floor, the worst layers stay in higher precision."""
    from hams_services.ctl.actions import nco

    nco.quantize(
        file,
        node,
        samples,
        floor,
        frames,
        compute.value if compute else "",
        scope.value if scope else None,
        device,
        budget,
        memory,
        json,
        debug,
    )


def _pass(name: str, text: str) -> None:
    """Add the command of a pass of the optimizer."""

    def command(
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
        from hams_services.ctl.actions import nco

        nco.reduce(name, file, node, samples, floor, frames, device, budget, memory, json, debug)

    command.__doc__ = text
    nco.command(name)(command)


_pass(
    "prune",
    "Prune filters of a node's network: channels of least saliency are removed, as many as the floor allows.",
)
_pass(
    "downscale-input",
    "Down-scale the input of a node's network as far as the floor allows, where its outputs are not positions.",
)
_pass(
    "crop-input",
    "Crop the input of a node's network to the part of its letterboxed image that the samples fill.",
)


@nco.command()
def convert(
    file: GroupFile,
    node: Node,
    precision: Annotated[
        PlainPrecision, typer.Option(help="fp16: weights; bf16: what it computes in, OpenVINO only.")
    ] = PlainPrecision.fp32,
    batch: Annotated[Batch | None, typer.Option(help="Images per inference: any number, or one.")] = None,
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
    """Show the variants of a group's networks, or of one network, and the agreement of each with its source."""
    from hams_services.ctl.actions import nco

    nco.variants(file, floor, json, debug)
