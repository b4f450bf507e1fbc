"""nats-py's exceptions as ours: one table, used by everything that talks to nats-py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors as js

from hams_shared.bus.nats.tls import NO_TLS
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    CredentialsError,
    DeadlineError,
    DigestError,
    HamsError,
    NotFoundError,
    RefusedError,
    TooLargeError,
)
from hams_shared.runtime.credentials import Credentials

_WHO = "give a credentials file of its `hams-ctl init` folder: --credentials FILE or HAMS_CREDENTIALS"
_START = "start one with `hams-ctl up`, or give --nats URL"

# First match wins, so subclasses stand before their bases. Columns: theirs, ours, text ({what} and {error}
# are filled in), hint.
_TABLE: tuple[tuple[type[BaseException], type[HamsError], str, str], ...] = (
    (nats.errors.NoRespondersError, NotFoundError, "nobody answers on {what}", ""),
    (
        js.KeyWrongLastSequenceError,
        RefusedError,
        "{what}: the key was changed by someone else",
        "read it again",
    ),
    (js.ObjectNotFoundError, NotFoundError, "{what}: not stored on the broker", ""),
    (js.DigestMismatchError, DigestError, "{what}: the stored bytes do not have the promised digest", ""),
    (js.InvalidKeyError, BadInputError, "{what}: not a valid key (letters, digits and -/_=. only)", ""),
    (js.InvalidBucketNameError, BadInputError, "{what}: not a valid bucket name", ""),
    (
        js.NoStreamResponseError,
        BrokerError,
        "{what}: the broker's JetStream is not there",
        "is it switched on?",
    ),
    (
        js.ServiceUnavailableError,
        BrokerError,
        "{what}: the broker's JetStream is not there",
        "is it switched on?",
    ),
    (js.NotFoundError, NotFoundError, "{what}: not found on the broker", ""),
    (js.APIError, BrokerError, "{what}: the broker refuses: {error}", ""),
    (nats.errors.TimeoutError, DeadlineError, "no answer in time: {what}", ""),
    (TimeoutError, DeadlineError, "no answer in time: {what}", ""),
    (nats.errors.BadSubjectError, BadInputError, "{what}: not a valid subject", ""),
    (nats.errors.MaxPayloadError, TooLargeError, "{what}: the message is larger than the broker takes", ""),
    (
        nats.errors.OutboundBufferLimitError,
        BrokerError,
        "{what}: the broker is away and the buffer for messages to it is full",
        "the connection is tried again without end",
    ),
    (nats.errors.ConnectionClosedError, BrokerError, "{what}: the connection to the broker is closed", ""),
    (nats.errors.ConnectionDrainingError, BrokerError, "{what}: the connection to the broker is closing", ""),
    (nats.errors.AuthorizationError, CredentialsError, "{what}: the broker does not accept our credentials", _WHO),
    (nats.errors.NoServersError, BrokerError, "{what}: no broker", _START),
    (nats.errors.Error, BrokerError, "{what}: {error}", ""),
    (OSError, BrokerError, "{what}: {error}", ""),
)

AWAY: tuple[type[BaseException], ...] = (
    js.NoStreamResponseError,
    js.ServiceUnavailableError,
    js.BucketNotFoundError,
)
"""The bucket, or JetStream as a whole, is away: it is re-opened and the operation tried again."""


def as_ours(error: BaseException, what: str) -> HamsError | None:
    """Translate `error`, met while doing `what`; None when it is not of nats-py or the network."""
    if isinstance(error, HamsError):
        return error
    for theirs, ours, text, hint in _TABLE:
        if isinstance(error, theirs):
            return ours(text.format(what=what, error=str(error).removeprefix("nats: ")), hint)
    return None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise whatever nats-py raises inside as the matching HamsError."""
    try:
        yield
    except Exception as error:
        ours = as_ours(error, what)
        if ours is None or ours is error:
            raise
        raise ours from error


def is_refusal(reason: str) -> bool:
    """Whether a connection failed because broker or client do not accept each other."""
    words = ("authorization", "authentication", "certificate", "ssl:", NO_TLS.lower())
    return any(word in reason.lower() for word in words)


def revoked(url: str, reason: str, identity: Credentials | None) -> BrokerError:
    """Return the error of a broker that has accepted `identity` before, and refuses it now."""
    if identity is None or "authorization violation" not in reason.lower():
        return no_broker(url, reason, identity)
    where = f" at {identity.path}" if identity.path is not None else ""
    return CredentialsError(
        f"the broker at {url} rejects the credentials of {identity.user}, which it accepted before: they were revoked",
        f"put new ones{where}, of `hams-ctl credentials add {identity.user}`: they are read without a restart",
    )


def no_broker(url: str, reason: str = "", identity: Credentials | None = None) -> BrokerError:
    """Return the error for a URL where no broker answers, or none that accepts `identity`."""
    lower = reason.lower()
    if NO_TLS in reason:
        return CredentialsError(
            f"the broker at {url} {NO_TLS}: no credentials were sent",
            "give the URL of a broker with TLS (`hams-ctl init` makes one); else the connection is intercepted",
        )
    if "authorization violation" in lower or "authentication" in lower:
        if identity is None:
            return CredentialsError(f"the broker at {url} requires credentials", _WHO)
        return CredentialsError(
            f"the broker at {url} rejects the credentials of {identity.user}",
            "they were revoked or are of another site: take those of its own `hams-ctl init` folder, and let it read "
            "new users (hams-ctl credentials reload)",
        )
    if "certificate" in lower or "ssl" in lower or "tls" in lower:
        if identity is None:
            return CredentialsError(f"the broker at {url} requires credentials and TLS", _WHO)
        return _no_trust(url, reason)
    return BrokerError(f"no broker at {url}{': ' + reason if reason else ''}", _START)


def _no_trust(url: str, reason: str) -> CredentialsError:
    """Return the error for a broker whose certificate is refused."""
    lower = reason.lower()
    if "hostname mismatch" in lower or "ip address mismatch" in lower:
        return CredentialsError(
            f"the broker's certificate is not for the host in {url}",
            "use a name it was made for, or make it anew: hams-ctl init --renew-broker --host NAME",
        )
    if "not yet valid" in lower:
        return CredentialsError(
            f"the certificate of the broker at {url} is not valid yet: the clock of this box is behind",
            "set the clock, as by NTP",
        )
    if "expired" in lower:
        return CredentialsError(
            f"the certificate of the broker at {url} has expired, or the clock of this box is ahead",
            "hams-ctl init --renew-broker, then restart the broker",
        )
    if "verify failed" in lower:
        return CredentialsError(
            f"the broker at {url} has a certificate that these credentials do not trust",
            "take the credentials of its own `hams-ctl init` folder",
        )
    return CredentialsError(f"the broker at {url} has no TLS as the credentials require: {reason}")
