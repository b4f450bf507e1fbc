"""Requests of :func:`hams_agents.evaluate.entry.evaluate`, as plain values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.group import FurtherInput


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Job(_Request):
    memory_mib: int = Field(0, ge=0, description="memory limit of the process, MiB; 0: no limit")


class ModelAt(_Request):
    """A network file, and its input where that differs from the node's."""

    path: str
    digest: str = ""
    input: InputSpec | None = None
    further: tuple[FurtherInput, ...] = ()


class Decode(_Job):
    """Run a node on samples with each of `models`.

    Returns ``{"results": [{"items": …, "threshold": …, "fps": …} or {"error": …}]}``, one result per model. An item is
    the node's output for that sample: a list of objects, or a map. ``"fps"`` is there with `time`. ``"threshold"`` is
    the least score of an object, where the task has one; a `margin` lowers it, so that more objects are returned.
    """

    do: Literal["decode"]
    device: str
    name: str
    node: NodeSpec
    models: tuple[ModelAt, ...] = Field(min_length=1)
    samples: str
    names: tuple[str, ...] = Field((), description="of the samples; empty: all")
    time: bool = False
    margin: float = Field(0.0, ge=0, lt=1)


class Tensors(_Job):
    """Write the node's input tensors for samples to `out`, one ``.npy`` file of N×…; no network runs.

    Returns width and height of the part, from the top left, that all images together fill.
    """

    do: Literal["tensors"]
    node: NodeSpec
    samples: str
    names: tuple[str, ...] = ()
    out: str


class Collect(_Job):
    """Run a group on frames and write the input images of each node to OUT/NODE, a folder of samples.

    Returns the number of samples by node.
    """

    do: Literal["collect"]
    device: str
    group: GroupSpec
    models: dict[str, ModelAt]
    frames: str
    limit: int = Field(1000, ge=1, le=100_000, description="samples per node")
    out: str


class UsedOutputs(_Job):
    """Return which outputs of the network the node's task uses; see :data:`hams_agents.tasks.base.Reads`."""

    do: Literal["used-outputs"]
    device: str
    name: str
    node: NodeSpec
    model: ModelAt


Request = Annotated[Decode | Tensors | Collect | UsedOutputs, Field(discriminator="do")]
