"""What may be asked of ``python -m hams_agents.evaluate``, as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hams_shared.group.spec import GroupSpec, InputSpec, NodeSpec


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Job(_Request):
    memory_mib: int = Field(0, ge=0, description="address space that it may use, MiB; 0: no limit")


class ModelAt(_Request):
    """A network file, and what it wants for input where that is not what the node says."""

    path: str
    digest: str = ""
    input: InputSpec | None = None


class Decode(_Job):
    """Run a node on samples with each of `models`; write msgpack ``{"results": [{"items": …} or {"error": …}]}``.

    An item is what the node would say of that sample: a list of objects, or a map. With `time` there is ``"fps"`` too.
    ``"threshold"`` is the least score of an object, where the task knows one; with a `margin` those below it by no more
    are said as well.
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
    out: str


class Tensors(_Job):
    """Write the node's input tensors for samples, one ``.npy`` file of N×…; nothing is run.

    Prints as JSON width and height of the part, from the top left, that all images together fill.
    """

    do: Literal["tensors"]
    node: NodeSpec
    samples: str
    names: tuple[str, ...] = ()
    out: str


class Collect(_Job):
    """Run a group on frames and write what each of its nodes is shown: OUT/NODE is a folder of samples."""

    do: Literal["collect"]
    device: str
    group: GroupSpec
    models: dict[str, ModelAt]
    frames: str
    limit: int = Field(1000, ge=1, le=100_000, description="samples per node")
    out: str


class Read(_Job):
    """Print as JSON what the node's task reads of what the network says: see :data:`hams_agents.tasks.base.Reads`."""

    do: Literal["read"]
    device: str
    name: str
    node: NodeSpec
    model: ModelAt


Request = Annotated[Decode | Tensors | Collect | Read, Field(discriminator="do")]
