"""Labels given as texts: an image's vector against those of texts, as CLIP and its kin are trained.

Radford et al., *Learning Transferable Visual Models From Natural Language Supervision*, ICML 2021: softmax over
``logit_scale * cosine``. Zhai, Mustafa, Kolesnikov, Beyer, *Sigmoid Loss for Language Image Pre-Training*, ICCV 2023
(SigLIP): sigmoid of ``logit_scale * cosine + logit_bias``, each label for itself. The network is the image encoder
alone; the texts' vectors come from a file (:mod:`hams_shared.group.label_vectors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, Reads, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import only, pick, rows, sigmoid, softmax
from hams_shared.errors import TaskError
from hams_shared.group.label_vectors import unpack
from hams_shared.group.node_spec import GallerySpec

NAME = "zero_shot"
LEAST_SIZE = 128
"""Numbers of an embedding; shorter outputs are rather scores of classes."""


class TextsParams(TaskParams):
    """What ``!embeddings FILE`` becomes."""

    labels: tuple[str, ...] = Field(min_length=2)
    size: int = Field(ge=1, description="numbers of a vector")
    f16: str = Field(description="base64 of half floats, vector by vector")

    @model_validator(mode="after")
    def _whole(self) -> TextsParams:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is there twice")
        unpack(len(self.labels), self.size, self.f16)
        return self


class ZeroShotParams(TaskParams):
    """Parameters of ``type: zero_shot``."""

    texts: TextsParams = Field(description="labels with their vectors: !embeddings FILE, of .npz or .json")
    activation: Literal["softmax", "sigmoid"] = Field("softmax", description="softmax: CLIP; sigmoid: SigLIP")
    logit_scale: float = Field(100.0, gt=0, description="the cosine is multiplied by it: exp of the trained value")
    logit_bias: float = Field(0.0, description="added after that; SigLIP has one, about -10 to -17")
    threshold: float = Field(0.0, ge=0, lt=1, description="with a lower best score the label is `unknown`")
    unknown: str = Field("unknown", min_length=1, description="the label of an image that no text fits")
    top_k: int = Field(3, ge=0, le=100, description="so many best labels are listed with their scores")
    embedding: bool = Field(False, description="the result has the image's vector")
    gallery: GallerySpec | None = Field(
        None, description="identify objects: the pipeline remembers vectors it has seen; see the task embedding"
    )
    output: str | None = Field(None, description="name of the output; not needed when there is one only")

    @field_validator("texts", mode="before")
    @classmethod
    def _tagged(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"is the name of a file, which only !embeddings reads: write texts: !embeddings {value}")
        return value


class ZeroShot:
    """Describes an image as ``{"label", "score", "scores": {label: score}}``; the best first.

    With `embedding` or `gallery` there is ``embedding``, as of the task of that name.
    """

    Params: ClassVar[type[TaskParams]] = ZeroShotParams
    IN_FULL: ClassVar[Mapping[str, Any]] = {"embedding": True}

    def __init__(self, params: ZeroShotParams, context: TaskContext) -> None:
        self._params = params
        self._texts = unpack(len(params.texts.labels), params.texts.size, params.texts.f16)
        self._gives_vector = params.embedding or params.gallery is not None

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`: one vector for each image."""
        likely = [
            info
            for info in outputs
            if len(info.shape) == 2 and info.dtype.startswith("float") and (info.shape[1] or 0) >= LEAST_SIZE
        ]
        if len(likely) != 1:
            return None
        return layouts.named(likely[0], outputs)

    def reads(self, outputs: Outputs) -> Reads:
        """Return the one output that is used."""
        return only(outputs, self._params.output, NAME)

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        params = self._params
        values = rows(pick(outputs, params.output, NAME), len(to_frame), NAME)
        if values.shape[1] != self._texts.shape[1]:
            raise TaskError(
                f"task {NAME}: the network gives vectors of {values.shape[1]} numbers, those of the texts have "
                f"{self._texts.shape[1]}",
                "make the file with the text encoder that belongs to this network",
            )
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        units = values / np.where(lengths > 0, lengths, np.float32(1))
        logits = np.asarray(units @ self._texts.T * params.logit_scale + params.logit_bias, np.float32)
        scores = softmax(logits) if params.activation == "softmax" else sigmoid(logits)
        order = np.argsort(-logits, axis=1, kind="stable")[:, : max(1, params.top_k)]
        items = [self._item(row, best) for row, best in zip(scores, order.tolist(), strict=True)]
        if self._gives_vector:
            for item, vector in zip(items, units.astype(np.float64).round(5).tolist(), strict=True):
                item["embedding"] = vector
        return items

    def _item(self, scores: Any, best: list[int]) -> dict[str, Any]:
        params, labels = self._params, self._params.texts.labels
        top = round(float(scores[best[0]]), 4)
        item: dict[str, Any] = {"label": labels[best[0]] if top >= params.threshold else params.unknown, "score": top}
        if params.top_k:
            item["scores"] = {labels[index]: round(float(scores[index]), 4) for index in best}
        return item
