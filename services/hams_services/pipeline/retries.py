"""Whether a frame whose attempt failed is sent again, and when. Pure."""

from __future__ import annotations

from hams_services.pipeline.flight import MAX_ATTEMPTS
from hams_shared.runtime.backoff import Backoff

OF_DEVICE = frozenset({"inference-failed", "not-finite"})
"""Errors that may be a device's fault: another one, where the plan has it, is tried at once."""

RETRYABLE = frozenset({"stale-epoch", "refused", "frame-gone", "frame-unreachable", *OF_DEVICE})
"""Errors after which a lossless frame is sent again; a live one is dropped."""

NOT_FINITE_ATTEMPTS = 4
"""So often a frame is tried whose numbers are not finite: by then its device is tested, and out if at fault."""

RETRY = Backoff(first=0.1, longest=6.4)
"""Pauses before a failed frame is sent again."""


def retry_pause(code: str, failed_attempts: int, *, lossless: bool) -> float | None:
    """Return the pause in s before a frame that failed with `code` is sent again; None when it ends."""
    most = NOT_FINITE_ATTEMPTS if code == "not-finite" else MAX_ATTEMPTS
    if not lossless or not may_pass(code) or failed_attempts >= most:
        return None
    return RETRY.pause(failed_attempts)


def may_pass(code: str) -> bool:
    """Whether another attempt may succeed after `code`."""
    return code in RETRYABLE or code == "deadline"
