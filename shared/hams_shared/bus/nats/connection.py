"""The connection to a nats-server: connecting, reconnecting, publishing, and a name for every error.

nats-py does the protocol, reconnects and replays subscriptions. This module adds what it leaves open: a deadline on
every wait, our errors instead of its own, counts of what was dropped, and the news of a lost and regained broker for
the key-value watches (:mod:`hams_shared.bus.nats.kv`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, Self

import nats
import nats.errors
from nats.aio.client import Client, Server

from hams_shared.bus.nats.errors import is_refusal, no_broker, revoked, translated
from hams_shared.bus.nats.handover import HandoverClient
from hams_shared.bus.nats.renewal import follow_file
from hams_shared.bus.nats.unanswered import Unanswered
from hams_shared.bus.urls import is_tls, redacted
from hams_shared.bus.wakers import Wakers
from hams_shared.errors import BrokerError, CredentialsError, DeadlineError, HamsError
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.credentials import Credentials, of_environment
from hams_shared.runtime.lifecycle import ended
from hams_shared.runtime.process import kv_replicas

log = logging.getLogger(__name__)
# asyncio logs this for every TLS connection that the other side ends; its streams cannot avoid it.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received() has no effect" not in record.getMessage())

RECONNECT = Backoff(first=0.05, longest=1.0, jitter=0.25)
"""Pauses between two attempts to reconnect."""

WRITE_DEADLINE_S = 10.0
"""A connected broker that takes nothing for this long is reported to the publisher."""

PING_S = 2.0
"""A half-open connection is found after three of these. TCP itself would go on for minutes, and after a cut of some
seconds its next retransmission may be as many seconds away; a new connection is there as soon as the link is."""

CLOSE_S = 5.0
"""Deadline for closing the connection."""

YIELD_BYTES = 64 * 1024
"""With this much unsent, `publish` lets the event loop write: nats-py's own publish never yields."""

CONNECT_S = 5.0
"""Default deadline for connecting, s."""

OnState = Callable[[], None]


class _Droppable(Protocol):
    """A subscription as the connection sees it."""

    dropped: int

    async def unsubscribe(self) -> None:
        """Stop receiving."""
        ...


class NatsConnection:
    """A connection to a nats-server that reconnects for ever. Use as an async context manager.

    `credentials` hold this client's identity and the authority of the broker's certificate (default: the file that
    ``HAMS_CREDENTIALS`` names, if any); then the connection is by TLS. `url` may name several servers, separated by
    commas. `on_disconnect` and `on_reconnect` are called on the event loop and must not block. `pending_bytes` bounds
    what is buffered while the broker is away. `replicas` is the number of servers that hold each bucket this client
    creates; None: HAMS_KV_REPLICAS.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "hams",
        credentials: Credentials | None = None,
        connect_timeout: float | None = None,
        pending_bytes: int = 16 * 1024 * 1024,
        replicas: int | None = None,
        on_disconnect: OnState | None = None,
        on_reconnect: OnState | None = None,
    ) -> None:
        self.url = redacted(url)
        self.replicas = kv_replicas() if replicas is None else replicas
        self._servers = [part.strip() for part in url.split(",")]
        self._name = name
        self._credentials = credentials
        self._connect_timeout = CONNECT_S if connect_timeout is None else connect_timeout
        self._pending_bytes = pending_bytes
        self._on_disconnect = on_disconnect
        self._on_reconnect = on_reconnect
        self._nc: Any = None
        self._following: asyncio.Task[None] | None = None
        self._subscriptions: dict[Any, _Droppable] = {}
        self.wakers = Wakers()
        """Woken when the broker was lost or is back, and when the bus closes."""
        self.unanswered = Unanswered()
        self._connected = asyncio.Event()
        self._closing = False
        self._last_error = ""
        self._refused = ""
        """Why the broker refuses this client; errors that follow from it are less clear."""
        self._refusals = 0
        self._denied = ""
        self._denials = 0
        self.generation = 0
        """Counts the connections made: a watch begun in an older generation has to start over."""
        self.slow_drops = 0
        """Messages lost in any subscription of this client."""

    async def __aenter__(self) -> Self:
        if not all(self._servers):
            raise BrokerError("no broker URL given", "for example nats://127.0.0.1:4222")
        identity = self._credentials = self._credentials or of_environment()
        secure = identity is not None or any(is_tls(server) for server in self._servers)
        self._nc = HandoverClient() if secure else Client()
        connecting = asyncio.create_task(self._connect(identity), name="connect")
        try:
            await asyncio.wait({connecting}, timeout=self._connect_timeout)
            if not connecting.done():
                raise TimeoutError
            connecting.result()
        except BaseException as error:
            self._closing = True
            await ended({connecting})  # nats-py tries without end, and one cancellation it may lose
            await self._end()
            if isinstance(error, (TimeoutError, nats.errors.Error, OSError, ValueError)):
                raise no_broker(self.url, self._refused or self._last_error or str(error), identity) from None
            raise
        self.generation = 1
        self._connected.set()
        if identity is not None and identity.path is not None:
            self._following = asyncio.create_task(follow_file(self, identity), name="follow credentials")
        return self

    async def _connect(self, identity: Credentials | None) -> None:
        await self._nc.connect(
            self._servers,
            name=self._name,
            error_cb=self._error,
            disconnected_cb=self._lost,
            reconnected_cb=self._regained,
            closed_cb=self._ended,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            reconnect_to_server_handler=_next_server,
            connect_timeout=2,
            ping_interval=PING_S,
            max_outstanding_pings=2,
            pending_size=self._pending_bytes,
            **({} if identity is None else _as_options(identity)),
        )

    async def __aexit__(self, *exc: object) -> None:
        """Send what is buffered (for two seconds at most) and close; handlers still running are cancelled."""
        if self._following is not None:
            await ended({self._following})
        if self._connected.is_set() and not self.closed:
            with suppress(HamsError):
                await self.flush(2.0)
        self._closing = True
        self.wakers.wake()
        await self._end()

    async def _end(self) -> None:
        if not self._connected.is_set():
            # While the broker is away, nats-py's close may raise half way, before it has ended the subscriptions.
            for subscription in list(self._subscriptions.values()):
                await subscription.unsubscribe()
        # AssertionError: a URL that cannot be parsed leaves nats-py half made. RuntimeError: uvloop's, of a transport
        # that a broker's death closed.
        with suppress(AssertionError, OSError, RuntimeError, nats.errors.Error, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._nc.close()

    # State

    @property
    def closed(self) -> bool:
        """Whether the connection has ended for good."""
        return self._closing or self._nc is None or bool(self._nc.is_closed)

    @property
    def closing(self) -> bool:
        """Whether this side closes (or has closed) the connection."""
        return self._closing

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        return self._connected.is_set()

    @property
    def max_payload(self) -> int:
        """Largest message, bytes."""
        return int(self._nc.max_payload)

    @property
    def user(self) -> str:
        """The broker's user that this connection is; empty: it has no credentials."""
        return self._credentials.user if self._credentials is not None else ""

    @property
    def jetstream(self) -> Any:
        """A new nats-py JetStream context."""
        return self._nc.jetstream(timeout=5.0)

    def check_open(self) -> None:
        """Raise BrokerError when the connection has ended for good."""
        if self._nc is None:
            raise BrokerError("the bus is not open", "use it with `async with`")
        if self.closed:
            reason = "" if self._closing else f": {self._last_error or 'the broker ended it'}"
            raise BrokerError(f"the connection to {self.url} is closed{reason}")

    def new_inbox(self) -> str:
        """A subject of our own, on which answers may come."""
        return str(self._nc.new_inbox())

    @contextmanager
    def allowed(self, what: str) -> Iterator[None]:
        """Translate nats-py's errors; if the broker denied us something meanwhile, that is why no answer came.

        The same holds if the broker was lost, and rejects this client now.
        """
        before = self._denials
        try:
            with translated(what):
                yield
        except DeadlineError:
            if self._refused and not self.connected:
                raise revoked(self.url, self._refused, self._credentials) from None
            if self._denials == before:
                raise
            raise CredentialsError(
                f"{what}: our credentials do not allow it ({self._denied})",
                "use those of a role that may, such as admin",
            ) from None

    async def renew(self, identity: Credentials) -> None:
        """Go on as `identity`, without a pause if the broker is there; while it refuses us, with the next attempt.

        Raises:
            BrokerError: the broker does not accept it; the connection goes on as it is.
        """
        if self.connected:
            options = {"name": self._name, "error_cb": self._error, "allow_reconnect": False, "connect_timeout": 2}
            try:
                with translated(f"new credentials of {identity.user}"):
                    await self._nc.handover(identity, {**options, **_as_options(identity)})
            except BrokerError as error:
                raise no_broker(self.url, str(error), identity) from None
        else:
            self._nc.adopt(identity)
        self._credentials = identity

    def forget(self, raw: Any) -> None:
        """Drop an ended subscription of nats-py from the books."""
        self._subscriptions.pop(raw, None)

    async def _error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            self.slow_drops += 1
            subscription = self._subscriptions.get(error.sub)
            if subscription is not None:
                subscription.dropped += 1
                if subscription.dropped == 1:
                    log.warning("%s is read too slowly: messages are dropped", error.subject)
            return
        text = str(error).removeprefix("nats: ") or type(error).__name__
        if "permissions violation" in text.lower():
            self._denied, self._denials = text, self._denials + 1
            if self._denials & (self._denials - 1) == 0:  # 1, 2, 4, 8 …: a stream of them does not fill the log
                log.warning("the broker at %s denied a request (%d so far): %s", self.url, self._denials, text)
            return
        if is_refusal(text) and not self._connected.is_set():  # else a connection that was taken has broken
            self._refused, self._refusals = text, self._refusals + 1
            if self.generation and self._refusals & (self._refusals - 1) == 0:  # before, the caller gets the error
                log.error("%s", revoked(self.url, text, self._credentials))
            return
        # A broker that stays away repeats itself with every attempt.
        log.log(logging.DEBUG if text == self._last_error else logging.INFO, "broker %s: %s", self.url, text)
        self._last_error = text

    async def _lost(self) -> None:
        if not self._connected.is_set():
            return
        self._connected.clear()
        if not self._closing:
            log.warning("lost the broker at %s, trying again without end", self.url)
            self._call(self._on_disconnect)
        self.unanswered.lost()
        self.wakers.wake()

    async def _regained(self) -> None:
        self._last_error = self._refused = ""
        self._refusals = 0
        self.generation += 1
        self._connected.set()
        log.info("the broker at %s is back", self.url)
        self._call(self._on_reconnect)
        self.wakers.wake()

    async def _ended(self) -> None:
        # nats-py gives up by itself when the broker answers a fatal -ERR (for example: account revoked).
        if not self._closing:
            log.error("the broker at %s ended the connection: %s", self.url, self._nc.last_error or self._last_error)
            self._last_error = str(self._nc.last_error or self._last_error)
        self.wakers.wake()

    def _call(self, hook: OnState | None) -> None:
        try:
            if hook is not None:
                hook()
        except Exception:
            log.exception("connection hook failed")

    # Core NATS

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send to all subscribers; while the broker is away, into a bounded buffer.

        Raises:
            BrokerError: closed, larger than :attr:`max_payload`, or the buffer is full.
            DeadlineError: the broker is there and takes nothing.
        """
        await self.publish_with(subject, data, reply, None)

    async def publish_with(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        """Publish with NATS headers; otherwise as :meth:`publish`."""
        self.check_open()
        if len(data) > self.max_payload:
            raise BrokerError(
                f"{subject}: a message of {len(data)} bytes, but the broker takes {self.max_payload}",
                "raise max_payload of the broker",
            )
        if self._nc.pending_data_size + len(data) <= YIELD_BYTES:  # it only appends to the buffer: nothing to wait for
            with translated(subject):
                await self._nc.publish(subject, data, reply=reply, headers=headers)
            return
        task = asyncio.current_task()
        cancelling = task.cancelling() if task else 0
        with translated(subject):
            async with asyncio.timeout(WRITE_DEADLINE_S):
                await self._nc.publish(subject, data, reply=reply, headers=headers)
                if self._nc.pending_data_size > YIELD_BYTES:
                    await asyncio.sleep(0)
                if task is not None and task.cancelling() > cancelling:
                    # nats-py swallows a cancellation that meets it while it waits for a full buffer to drain.
                    raise asyncio.CancelledError

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the broker has taken everything published and every subscription made so far.

        Raises:
            DeadlineError: not within `timeout` seconds, for example because the broker is away.
        """
        self.check_open()
        with translated(f"flush to {self.url}"):
            async with asyncio.timeout(timeout):
                await self._barrier()

    async def _barrier(self) -> None:
        """Wait for a message to ourselves: it travels behind everything sent before.

        nats-py's flush is no such thing: its PING is written at once, ahead of commands that still wait for the
        flusher task, and while it reconnects it returns without having sent anything.
        """
        inbox = self._nc.new_inbox()
        subscription = await self._nc.subscribe(inbox)
        try:
            while True:
                await self._connected.wait()
                await self._nc.publish(inbox)
                with suppress(nats.errors.TimeoutError):
                    await subscription.next_msg(timeout=1.0)
                    return
        finally:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()


def _as_options(identity: Credentials) -> dict[str, Any]:
    """Return the options of nats-py's connect for `identity`."""
    return {"nkeys_seed_str": identity.seed, "tls": identity.tls(), "inbox_prefix": identity.inbox_prefix}


def _next_server(pool: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
    """Choose the server tried least and the pause before, s."""
    server = min(pool, key=lambda s: s.reconnects)
    return server, RECONNECT.pause(server.reconnects + 1, random.random())
