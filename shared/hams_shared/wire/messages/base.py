"""Control-plane messages and KV records: small, rare, validated. One file per part that writes them.

A reader ignores fields it does not know (a newer writer may send more); a missing field is an error, never guessed.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SerializationInfo


class Wire(BaseModel):
    """Base of all control messages."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def belongs(self, key: str) -> bool:
        """Whether it may be stored under `key` of its bucket; readers ignore a record under another's key."""
        return True


def _brief(spec: BaseModel, info: SerializationInfo) -> dict[str, Any]:
    brief = spec.model_dump(mode=info.mode, exclude_defaults=True)
    # A default that a task implies (describe) would come back instead of the value that a person gave.
    return brief if type(spec).model_validate(brief) == spec else spec.model_dump(mode=info.mode)


BRIEF = PlainSerializer(_brief)
"""For parts of group files, whose readers refuse keys that they do not know: what has its default does not travel, so
that an earlier version refuses a key only where it is used."""


class WireError(Wire):
    """An error as it travels; see :mod:`hams_shared.errors`."""

    code: str
    text: str
    hint: str = ""


class StoredRequest(Wire):
    """Which stored messages are requested, oldest first."""

    after: int = Field(0, ge=0, description="those behind this sequence; 0: from the oldest")
    journal: str = Field("", description="what `after` belongs to, as an answer names it; empty: the present one")
    since_s: float | None = Field(
        None, ge=0, description="instead of `after`: those stored in the last since_s seconds; 0: only newer ones"
    )


class StoredAnswer(Wire):
    """Where to read on behind the stored messages of an answer; or why there are none."""

    after: int = Field(0, description="for the next request")
    journal: str = Field("", description="for the next request: a broker that lost its store has another one")
    more: bool = Field(False, description="whether there may be more now")
    error: WireError | None = None
