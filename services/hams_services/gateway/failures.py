"""What an error of HAMS is to a client of HTTP or gRPC. Pure."""

from __future__ import annotations

from hams_shared.errors import (
    BadInputError,
    BrokerError,
    CredentialsError,
    DeadlineError,
    ForbiddenError,
    HamsError,
    InfeasibleError,
    NotFoundError,
    OverloadedError,
    TooLargeError,
    UnauthenticatedError,
)

RETRY_S = 1
"""What an overloaded gateway asks clients to wait, s."""

STATUS: tuple[tuple[type[HamsError], int, str], ...] = (
    (UnauthenticatedError, 401, "UNAUTHENTICATED"),
    (ForbiddenError, 403, "PERMISSION_DENIED"),
    (TooLargeError, 413, "INVALID_ARGUMENT"),
    (BadInputError, 400, "INVALID_ARGUMENT"),
    (CredentialsError, 503, "UNAVAILABLE"),  # the gateway's own, with the broker
    (NotFoundError, 404, "NOT_FOUND"),
    (BrokerError, 503, "UNAVAILABLE"),
    (DeadlineError, 504, "DEADLINE_EXCEEDED"),
    (OverloadedError, 503, "RESOURCE_EXHAUSTED"),
    (InfeasibleError, 503, "UNAVAILABLE"),
    (HamsError, 500, "INTERNAL"),
)
"""By error, the first that fits: the status of HTTP, and that of gRPC."""


def http_status(error: HamsError) -> int:
    """Return the status of HTTP."""
    return next(status for kind, status, _ in STATUS if isinstance(error, kind))


def grpc_status(error: HamsError) -> str:
    """Return the name of the status of gRPC."""
    return next(name for kind, _, name in STATUS if isinstance(error, kind))


def headers(error: HamsError) -> dict[str, str]:
    """Return the headers that belong to the error in HTTP."""
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(RETRY_S)}
    if isinstance(error, UnauthenticatedError):
        return {"WWW-Authenticate": 'Bearer realm="hams"'}
    return {}


def body(error: HamsError) -> dict[str, str]:
    """Return the error as JSON, as KServe has it: ``error`` is text; `code` and `hint` are HAMS's."""
    return {"error": str(error), "code": error.code, "hint": error.hint}
