"""Answers to requests: on inboxes and nowhere else, and errors as NATS services answer with them (ADR-32).

A client names the subject of the answer, and the broker does not check that name against the client's own rights:
a service that may answer (`allow_responses`) would write where the client may not, for example over a plan in a KV
bucket (``$KV.…``). So a request that wants its answer elsewhere than on an inbox gets none.
"""

from __future__ import annotations

import json
import logging
import re

from hams_shared.errors import BrokerError, HamsError, from_wire

log = logging.getLogger(__name__)

ERROR_TEXT = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"

_INBOX = re.compile(r"_INBOX(_[^.*>\s]+)?(\.[^.*>\s]+)+")
"""NATS's own, ``_INBOX.…``, or that of one user, ``_INBOX_<user>.…`` (:mod:`hams_shared.runtime.credentials`)."""


def answer_subject(reply: str, subject: str) -> str:
    """Return `reply` when it is an inbox, else an empty text; `subject` is that of the request."""
    if not reply or _INBOX.fullmatch(reply):
        return reply
    log.warning("a message on %s wants its answer on %s, which is no inbox: it gets none", subject, reply)
    return ""


def error_answer(error: HamsError) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of the answer that carries `error`."""
    # A header is one line, and short.
    text = " ".join(error.text.split())[:500]
    return json.dumps(error.to_wire()).encode(), {ERROR_TEXT: text, ERROR_CODE: str(error.exit_code)}


def service_error(headers: dict[str, str], body: bytes) -> HamsError:
    """Rebuild the error a service answered with; one that is not a HAMS service becomes a BrokerError."""
    try:
        wire = json.loads(body)
        if isinstance(wire, dict) and "code" in wire:
            return from_wire(wire)
    except ValueError:
        pass
    return BrokerError(f"the service answered with error {headers.get(ERROR_CODE)}: {headers.get(ERROR_TEXT, '')}")
