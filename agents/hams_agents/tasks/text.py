"""Text on an image, such as a licence plate: by connectionist temporal classification, or as a list of characters.

Graves, Fernández, Gomez, Schmidhuber, *Connectionist Temporal Classification*, ICML 2006. Decoding is greedy: of each
step the best class; of equal ones that follow each other the first; blanks go. Lists of characters leave out the blank
and, as PaddleOCR's do, a space that comes last: the number of classes gives whether there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hams_agents.tasks import layouts
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams, TensorInfo
from hams_agents.tasks.decoding import pick, probabilities, rows
from hams_agents.tasks.families import fit
from hams_shared.errors import TaskError

METADATA_KEY = "character"
"""Where PaddleOCR's exporters put the characters into the network file, one a line."""


class TextParams(TaskParams):
    """Parameters of ``type: text``."""

    decode: Literal["ctc", "indices"] = Field(
        "ctc", description="ctc: a score per step and class; indices: the network gives characters, -1 ends"
    )
    characters: str | tuple[str, ...] = Field(
        (), description="one string, or a list; none: `character` of the network file's metadata"
    )
    blank: int = Field(0, ge=-1, description="ctc: the class that is no character; -1: the last one")
    activation: Literal["none", "softmax"] = Field(
        "none", description="none: the network's outputs are probabilities already"
    )
    output: str | None = Field(None, description="name of the output; not needed when there is one only")


class Text:
    """Describes an image as ``{"text": str, "score": mean probability of its characters}``; `indices` has no score."""

    Params: ClassVar[type[TaskParams]] = TextParams
    layout: ClassVar[str] = "one number per step and character, or the characters themselves"

    def __init__(self, params: TextParams, context: TaskContext) -> None:
        self._params = params
        self._characters = tuple(params.characters) or tuple(context.metadata.get(METADATA_KEY, "").splitlines())
        if not self._characters:
            raise TaskError(
                f"task text: the network file does not list its characters (metadata {METADATA_KEY!r})",
                "give them under `characters`, as a string, a list, or !lines FILE",
            )

    @classmethod
    def fits(
        cls, outputs: Sequence[TensorInfo], input: TensorInfo, metadata: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """See :class:`hams_agents.tasks.base.BaseTask`."""
        known = metadata.get(METADATA_KEY, "").splitlines()
        if len(outputs) != 1:
            return None
        sizes = [size for size in outputs[0].shape[1:] if size != 1]
        if known:
            return {} if {len(known) + 1, len(known) + 2} & set(sizes) else None
        if len(sizes) == 2:
            return {} if layouts.is_text(sizes) and fit("yolo", outputs, input, metadata) is None else None
        few = len(sizes) == 1 and sizes[0] is not None and 2 <= sizes[0] <= layouts.MOST_CHARACTERS
        return {"decode": "indices"} if few else None

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        values, count = pick(outputs, self._params.output, "text"), len(to_frame)
        flat = rows(values, count, "text")
        if self._params.decode == "indices":
            return [{"text": self._spell(row.astype(int).tolist())} for row in flat]
        sizes = [size for size in values.shape[1:] if size != 1]
        return [self._decode(row.reshape(sizes)) for row in flat]

    def _spell(self, indices: list[int]) -> str:
        """Join the characters up to the first negative index."""
        length = next((i for i, index in enumerate(indices) if index < 0), len(indices))
        wrong = max(indices[:length], default=0)
        if wrong >= len(self._characters):
            raise TaskError(f"task text: the network gave character {wrong}, the list has {len(self._characters)}")
        return "".join(self._characters[index] for index in indices[:length])

    def _decode(self, values: NDArray[np.float32]) -> dict[str, Any]:
        """Decode one image's T×K or K×T scores."""
        scores = probabilities(self._steps(values), self._params.activation, "text")
        classes = scores.shape[1]
        blank = self._params.blank % classes
        best = scores.argmax(axis=1)
        kept = best != blank
        kept[1:] &= best[1:] != best[:-1]
        symbols = [*self._characters, " "][: classes - 1]
        symbols.insert(blank, "")
        score = float(scores.max(axis=1)[kept].mean()) if kept.any() else 0.0
        return {"text": "".join(symbols[index] for index in best[kept]), "score": round(score, 4)}

    def _steps(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return T×K scores, steps first."""
        known = len(self._characters)
        fits = (known + 1, known + 2)
        if values.ndim == 1:
            values = values[None]
        if values.ndim == 2 and values.shape[1] in fits:
            return values
        if values.ndim == 2 and values.shape[0] in fits:
            return values.T
        shape = "×".join(map(str, values.shape))
        raise TaskError(
            f"task text: the network gives {shape} numbers for an image; {known} characters need {fits[0]} classes "
            f"(with a blank) or {fits[1]} (a space too)",
            "correct `characters`",
        )
