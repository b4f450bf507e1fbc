"""Control-plane messages and KV records: small, rare, validated. One file per part that writes them.

A reader ignores fields it does not know (a newer writer may send more); a missing field is an error, never guessed.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Base of all control messages."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class WireError(Wire):
    """An error as it travels; see :mod:`hams_shared.errors`."""

    code: str
    text: str
    hint: str = ""
