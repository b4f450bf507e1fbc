"""What a picture shows, in words: by a vision language model (docs/describe.md)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hams_agents.question import Question
from hams_agents.tasks.base import Affine, Outputs, TaskContext, TaskParams
from hams_shared.errors import TaskError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
"""Characters that move or hide others, and line ends; each run of them becomes a space."""
_SENTENCE = re.compile(r"[.!?…。！？](?=\s|$)")
_CUT = "…"


class DescribeParams(TaskParams):
    """Parameters of ``type: describe``."""

    prompt: str = Field(
        Question.prompt, min_length=1, max_length=2000, description="what the network is asked about each picture"
    )
    max_tokens: int = Field(Question.max_tokens, ge=1, le=1024, description="most tokens (parts of words) of an answer")
    temperature: float = Field(0.0, ge=0, le=2, description="0: the same picture gives the same text")
    max_s: float = Field(Question.max_s, gt=0, le=25, description="an answer ends after so many seconds")
    max_length: int = Field(300, ge=8, le=4000, description="most characters of a text; what is longer is cut off")


class Describe:
    """Describes an image as ``{"text": str}``, with ``"cut": True`` where the text was not at its end.

    Its network is asked :attr:`question`.
    """

    Params: ClassVar[type[TaskParams]] = DescribeParams

    def __init__(self, params: DescribeParams, context: TaskContext) -> None:
        wanted = {"color": "rgb", "layout": "nhwc", "dtype": "u8"}
        if any(getattr(context.input, key) != value for key, value in wanted.items()):
            raise TaskError(
                "task describe: its network takes pictures of R, G, B bytes", f"leave {', '.join(wanted)} out of input"
            )
        self._max_length = params.max_length
        self.question = Question(params.prompt, params.max_tokens, params.temperature, params.max_s)

    def describe(self, outputs: Outputs, to_frame: Sequence[Affine]) -> list[dict[str, Any]]:
        """Decode; see :class:`hams_agents.tasks.base.DescriptionTask`."""
        text, count = outputs.get("text"), len(to_frame)
        if text is None or text.dtype != np.uint8 or text.ndim != 2 or len(text) != count:
            raise TaskError("task describe: the network writes no text", "it needs a vision language model")
        whole = outputs.get("whole", np.ones(count, np.uint8))
        return [self._item(row.tobytes(), bool(end)) for row, end in zip(text, whole, strict=True)]

    def _item(self, raw: bytes, whole: bool) -> dict[str, Any]:
        text = raw.rstrip(b"\0").decode("utf-8", "ignore")
        text = " ".join(_CONTROL.sub(" ", text).split())
        if whole and len(text) <= self._max_length:
            return {"text": text}
        return {"text": shortened(text, self._max_length), "cut": True}


def shortened(text: str, most: int) -> str:
    """Cut a text that has no end, or too late a one: after a sentence, else after a word, with an ellipsis."""
    text = text[:most]
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    if ends and ends[-1] >= len(text) / 2:
        return text[: ends[-1]]
    words = text[: most - 1].rpartition(" ")[0] or text[: most - 1]
    return words.rstrip(" ,;:-") + _CUT
