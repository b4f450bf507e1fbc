"""Messages of a deployment: the group and the models in the object store."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import Field, model_validator

from hams_shared.group.spec import GroupSpec
from hams_shared.wire.messages.base import BRIEF, Wire
from hams_shared.wire.messages.candidate import Candidate


class ModelPart(Wire):
    """One file of a model; OpenVINO IR has two (``.xml``, ``.bin``), all other formats one."""

    suffix: str = Field(pattern=r"^\.[a-z0-9]{1,12}$")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, description="bytes")


class FurtherInput(Wire):
    """An input of a network besides its image, as deploying the group found it."""

    name: str = Field(min_length=1)
    shape: tuple[int, ...] = Field(min_length=1, description="for one image, batch axis first; -1: any size")
    dtype: str = Field("float32", description="as NumPy names it")
    batched: bool = Field(True, description="whether the network's own input has the batch axis")
    example: tuple[float, ...] = Field(
        (), description="values for measuring, one or as many as the shape; empty: zeros"
    )


class ModelRef(Wire):
    """A model in the object store, named by the SHA-256 of its content."""

    name: str
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    parts: tuple[ModelPart, ...] = Field(min_length=1, max_length=2)
    further: tuple[FurtherInput, ...] = Field((), description="the network's inputs besides the image")

    @property
    def further_key(self) -> str:
        """A short digest of what is fed besides the image: part of what a measurement depends on. Empty: nothing."""
        if not self.further:
            return ""
        text = json.dumps([one.model_dump(mode="json") for one in self.further])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class GroupRecord(Wire):
    """KV ``groups/<group>``: a deployed group, with its models resolved to digests."""

    spec: Annotated[GroupSpec, BRIEF]
    models: dict[str, ModelRef] = Field(description="by node")
    deployed_at: float = Field(description="Unix time, s")
    candidate: Candidate | None = Field(None, description="it is tried on frames of another group")
    version: int = Field(0, ge=0, description="grows by 1 with each deploy of this name; 0: of before versions were")
    by: str = Field("", description="who deployed: user of the credentials, else login@host")

    @model_validator(mode="after")
    def _has_each_nodes_model(self) -> GroupRecord:
        if missing := self.spec.nodes.keys() - self.models.keys():
            raise ValueError(f"no model for node {', '.join(sorted(missing))}")
        return self

    def belongs(self, key: str) -> bool:
        """Whether it is of group `key`."""
        return self.spec.name == key


class VersionRecord(Wire):
    """KV ``versions/<group>.<version>``: a group as it ran before."""

    record: GroupRecord
    ended_at: float = Field(description="when another version took its place or it was undeployed, Unix time, s")
