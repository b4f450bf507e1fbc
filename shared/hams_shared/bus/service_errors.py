"""Errors as NATS services answer with them (ADR-32), with the whole HamsError in the body."""

from __future__ import annotations

import json

from hams_shared.errors import BrokerError, HamsError, from_wire

ERROR_TEXT = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"


def error_answer(error: HamsError) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of the answer that carries `error`."""
    # A header is one line, and no place for a novel.
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
