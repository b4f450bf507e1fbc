from __future__ import annotations

import nats.errors
import nats.js.errors as js
import pytest

from hams_shared.bus.answers import error_answer, service_error
from hams_shared.bus.nats.errors import as_ours, no_broker, translated
from hams_shared.errors import (
    BadInputError,
    BrokerError,
    CredentialsError,
    DeadlineError,
    HamsError,
    NotFoundError,
    RefusedError,
    TooLargeError,
)
from hams_shared.runtime.credentials import Credentials


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (nats.errors.NoRespondersError(), NotFoundError),
        (nats.errors.TimeoutError(), DeadlineError),
        (TimeoutError(), DeadlineError),
        (js.FetchTimeoutError(), DeadlineError),
        (js.KeyWrongLastSequenceError("wrong last sequence: 3"), RefusedError),
        (js.NoStreamResponseError(), BrokerError),
        (js.ServiceUnavailableError(), BrokerError),
        (js.ObjectNotFoundError(), NotFoundError),
        (js.ServerError(description="insufficient storage"), BrokerError),
        (nats.errors.MaxPayloadError(), TooLargeError),
        (nats.errors.OutboundBufferLimitError(), BrokerError),
        (nats.errors.ConnectionClosedError(), BrokerError),
        (nats.errors.BadSubjectError(), BadInputError),
        (ConnectionResetError("reset"), BrokerError),
    ],
)
def test_the_table(theirs: Exception, ours: type[HamsError]) -> None:
    with pytest.raises(ours, match="the-thing") as caught, translated("the-thing"):
        raise theirs
    assert type(caught.value) is ours
    assert caught.value.__cause__ is theirs


def test_foreign_and_own_errors_pass() -> None:
    assert as_ours(KeyError(), "x") is None
    with pytest.raises(KeyError), translated("x"):
        raise KeyError
    ours = HamsError("mine")
    with pytest.raises(HamsError) as caught, translated("x"):
        raise ours
    assert caught.value is ours


def test_service_errors() -> None:
    body, headers = error_answer(RefusedError("no\r\nway", "hint"))
    assert headers == {"Nats-Service-Error": "no way", "Nats-Service-Error-Code": "7"}
    back = service_error(headers, body)
    assert (type(back), back.text, back.hint) == (RefusedError, "no\r\nway", "hint")
    foreign = service_error({"Nats-Service-Error": "nope", "Nats-Service-Error-Code": "400"}, b"not json")
    assert type(foreign) is BrokerError
    assert "400: nope" in foreign.text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("certificate verify failed: Hostname mismatch", "not for the host"),
        ("certificate verify failed: certificate is not yet valid", "the clock of this box is behind"),
        ("certificate verify failed: certificate has expired", "has expired"),
        ("certificate verify failed: self-signed certificate", "do not trust"),
    ],
)
def test_why_a_certificate_is_refused(reason: str, said: str) -> None:
    with pytest.raises(CredentialsError, match=said):
        raise no_broker("nats://box:4222", reason, Credentials("admin", "", ""))
    with pytest.raises(CredentialsError, match="requires credentials"):
        raise no_broker("nats://box:4222", reason)
