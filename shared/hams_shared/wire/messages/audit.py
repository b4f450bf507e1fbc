"""The audit: who changed what, told by the program that changed it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hams_shared.wire.messages.base import Wire

AuditWhat = Literal[
    "deploy",
    "undeploy",
    "set",
    "rollback",
    "resume",
    "job",
    "gallery",
    "events",
    "upload",
    "restore",
    "credentials",
    "token",
]
"""What is audited. A new kind needs no new right at the broker, which lets the admin write on all of them."""


class AuditEntry(Wire):
    """Something that a person changed, on ``hams.v1.audit.<what>.<user>``. It names no person who was seen.

    The broker proves `<user>` of the subject: with credentials it lets only the admin write here. All else is told.
    """

    version: Literal[1] = 1
    id: str = Field(description="unique")
    at: float = Field(description="Unix time, s, by the clock of who tells it")
    actor: str = Field(description="who did it, as the program states it: login@host, or USER@hams-web")
    target: str = Field("", description="what was changed: the name of a group, device, job, token, file; empty: none")
    text: str = Field(description="what happened, without a full stop")
