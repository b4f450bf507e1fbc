"""The MQTT broker: its address, TLS and login, and what its errors are called."""

from __future__ import annotations

import hashlib
import os
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from hams_services.sinks.mqtt.topics import OFFLINE, Topics
from hams_shared.errors import BadInputError, BrokerError, CredentialsError, HamsError, SourceError

if TYPE_CHECKING:
    import aiomqtt

USER, PASSWORD, PASSWORD_FILE = "HAMS_MQTT_USER", "HAMS_MQTT_PASSWORD", "HAMS_MQTT_PASSWORD_FILE"
PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 15
"""After one and a half times as long without a message, the broker publishes the last will."""
TIMEOUT_S = 10.0
"""Deadline of one answer of the broker, s."""
INCOMING = 20_000
"""Retained messages that are read at a start; of more, the rest is not tidied up."""
CLIENT_ID = 23
"""Longest id that each broker takes, characters (MQTT 3.1.1, 3.1.3.1)."""
REFUSED = (4, 5, 134, 135)
"""Reason codes of MQTT 3.1.1 and 5 for a wrong user or password, or one without rights."""


@dataclass(frozen=True)
class Broker:
    """Where the broker is, and who we are to it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def exposed(self) -> bool:
        """Whether the password leaves this host in clear text."""
        return self.password is not None and self.tls is None and self.host not in ("localhost", "127.0.0.1", "::1")

    @property
    def where(self) -> str:
        """Its address, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtt' if self.tls is None else 'mqtts'}://{host}:{self.port}"


def broker_of(
    url: str,
    environment: Mapping[str, str] = os.environ,
    *,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    password_file: Path | None = None,
) -> Broker:
    """Return the broker at `url`, mqtt[s]://host[:port]; user and password are in the environment or a file.

    Raises:
        BadInputError: it is no such address, or its options do not fit each other.
        CredentialsError: a file cannot be read.
    """
    host, port, secure = _address(url)
    if not secure and (ca or cert or key):
        raise BadInputError("--ca, --cert and --key are for TLS", "write mqtts:// in the broker's address")
    user = environment.get(USER) or None
    password = _password(environment, password_file)
    if password is not None and user is None:
        raise BadInputError("there is a password, but no user", f"set {USER}")
    return Broker(host, port, _tls(ca, cert, key) if secure else None, user, password)


def _address(url: str) -> tuple[str, int, bool]:
    hint = "for example mqtt://192.168.1.5 or mqtts://broker.example.org:8883"
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # UnicodeError is one
        raise BadInputError("the MQTT broker's address is none", hint) from None
    if "@" in parts.netloc:  # it holds a secret: it is not repeated
        raise BadInputError(
            "user and password do not belong in the MQTT broker's address", f"set {USER} and {PASSWORD_FILE}"
        )
    if parts.scheme not in PORTS or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise BadInputError(f"{url!r} is no address of an MQTT broker", hint)
    return host, port or PORTS[parts.scheme], parts.scheme == "mqtts"


def _password(environment: Mapping[str, str], file: Path | None) -> str | None:
    path = file or (Path(environment[PASSWORD_FILE]) if environment.get(PASSWORD_FILE) else None)
    if path is None:
        return environment.get(PASSWORD) or None
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise CredentialsError(f"cannot read the password file {path}: {reason}") from None
    if not text:
        raise CredentialsError(f"the password file {path} is empty")
    return text


def _tls(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    if key is not None and cert is None:
        raise BadInputError("--key needs --cert", "give the client's certificate, too")
    for path in (ca, cert, key):
        if path is not None and not path.is_file():
            raise CredentialsError(f"cannot read {path}: there is no such file")
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert is not None:
            context.load_cert_chain(cert, key, password=lambda: "")  # else OpenSSL asks on the terminal
    except (OSError, ssl.SSLError, ValueError) as error:
        names = ", ".join(str(path) for path in (ca, cert, key) if path is not None)
        raise CredentialsError(f"cannot use {names} for TLS: {getattr(error, 'reason', None) or error}") from None
    return context


def library() -> ModuleType:
    """Return aiomqtt. Raises SourceError where it is not installed."""
    try:
        import aiomqtt
    except ImportError:
        raise SourceError("MQTT needs a library that is not installed", "pip install 'hams[mqtt]'") from None
    return aiomqtt


def client_id(topics: Topics) -> str:
    """Return the id at the broker: the same at each start, so that it ends a connection that hangs.

    A long base topic is in it as a digest: cut off, those that begin alike would be one client.
    """
    whole = f"hams-{topics.site}"
    digest = hashlib.sha256(topics.base.encode()).hexdigest()
    return whole if len(whole) <= CLIENT_ID else f"hams-{digest}"[:CLIENT_ID]


def client_of(broker: Broker, topics: Topics) -> aiomqtt.Client:
    """Return a client with its last will. Raises SourceError where aiomqtt is not installed."""
    mqtt = library()
    client: aiomqtt.Client = mqtt.Client(
        broker.host,
        broker.port,
        username=broker.user,
        password=broker.password,
        tls_context=broker.tls,
        identifier=client_id(topics),
        keepalive=KEEPALIVE_S,
        will=mqtt.Will(topics.status, OFFLINE, qos=1, retain=True),
        max_queued_incoming_messages=INCOMING,
        timeout=TIMEOUT_S,
    )
    client.pending_calls_threshold = INCOMING
    return client


def explained(error: Exception, broker: Broker) -> tuple[HamsError, bool]:
    """Return what an error of aiomqtt is, and whether trying again can be of no use at a start."""
    cause = error.__context__
    code = getattr(error, "rc", None)
    if getattr(code, "value", code) in REFUSED:
        who = f"the user {broker.user!r}" if broker.user else "a client without user"
        hint = f"check {USER} and {PASSWORD_FILE}, and the broker's rights"
        return CredentialsError(f"the MQTT broker {broker.where} refuses {who}: {error}", hint), True
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"the certificate of the MQTT broker {broker.where} is not trusted: {cause.verify_message}"
        return CredentialsError(text, "give the file of its authority with --ca"), True
    if isinstance(cause, ssl.SSLError):
        return BrokerError(f"no TLS with the MQTT broker {broker.where}: {cause.reason or cause}"), False
    return BrokerError(f"no MQTT broker at {broker.where}: {error}"), False


def lost(error: Exception, broker: Broker, topics: Topics) -> HamsError:
    """Return what it is when a connection ends that was there."""
    hint = f"if this goes on: does another bridge have the base topic {topics.base}?"
    return BrokerError(f"the connection to the MQTT broker {broker.where} ended: {error}", hint)
