"""Messages of a deployment: the group and the models in the object store."""

from __future__ import annotations

from pydantic import Field

from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.base import Wire


class ModelPart(Wire):
    """One file of a model; OpenVINO IR has two (``.xml``, ``.bin``), all other formats one."""

    suffix: str = Field(pattern=r"^\.[a-z0-9]{1,12}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class ModelRef(Wire):
    """A model in the object store, named by the SHA-256 of its content."""

    name: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    parts: tuple[ModelPart, ...] = Field(min_length=1, max_length=2)


class GroupRecord(Wire):
    """KV ``groups/<group>``: a deployed group, with its models resolved to digests."""

    spec: GroupSpec
    models: dict[str, ModelRef] = Field(description="by node")
    deployed_at: float = Field(description="Unix time, s")
