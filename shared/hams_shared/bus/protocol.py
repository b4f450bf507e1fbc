"""The one seam between HAMS and its transport.

Everything above this module talks to a :class:`Bus`. Two real implementations ship:
:mod:`hams_shared.bus.nats.client` (nats-server, production) and :mod:`hams_shared.bus.memory.client` (one process, for
tests and for embedding); one contract suite (``tests/contract``) runs against both.

Delivery is that of core NATS: at most once, in order per publisher and subject, to the subscribers present. A
subscription has a bound; what arrives beyond it is dropped, counted, and never blocks the publisher.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, Self

from hams_shared.bus.wakers import Wakers

MACHINE = "machine"
"""Metadata of every service: where it runs, so that a part can be asked from its own machine or container."""

SERVICE_QUEUE = "q"
"""Queue group of service endpoints unless another is named, as in ADR-32."""

Handler = Callable[["Message"], Awaitable[None]]
"""Called once per message, one at a time per subscription; an exception in it is logged, never fatal."""


class Message(Protocol):
    """One received message."""

    @property
    def subject(self) -> str:
        """Where it was published."""
        ...

    @property
    def data(self) -> bytes:
        """Its payload."""
        ...

    @property
    def reply(self) -> str:
        """Where an answer is awaited; empty when none is."""
        ...

    async def respond(self, data: bytes) -> None:
        """Publish `data` to :attr:`reply`; does nothing when no answer is awaited."""
        ...


class Subscription(Protocol):
    """A live subscription."""

    @property
    def dropped(self) -> int:
        """Messages lost because `limit` messages were already waiting."""
        ...

    async def unsubscribe(self) -> None:
        """Stop receiving; idempotent."""
        ...


@dataclass(frozen=True)
class Entry:
    """One value of a key-value bucket; `value` is None when the key was deleted."""

    key: str
    value: bytes | None
    revision: int
    lost: bool = False
    """Gone without having been deleted: the broker came back with an empty or older store."""


class KeyValue(Protocol):
    """A bucket of small values with revisions and watches (JetStream KV)."""

    async def get(self, key: str) -> Entry | None:
        """Return the newest value, or None when there is none or it was deleted."""
        ...

    async def put(self, key: str, value: bytes) -> int:
        """Store, whatever is there; return the new revision."""
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Store only if absent (or deleted). Raises RefusedError when present."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Store only if the newest revision is `revision`. Raises RefusedError when it is not."""
        ...

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Delete; no error when absent. Raises RefusedError when the newest revision is not `revision`, if given."""
        ...

    async def entries(self) -> dict[str, Entry]:
        """All present keys with their values."""
        ...

    def watch(self, key: str = ">") -> AsyncGenerator[Entry | None, None]:
        """Yield all present entries, then ONE None (the snapshot is complete), then every change.

        Deletions come as entries with ``value=None``. A reader slower than the changes gets the newest value
        of each key, not every value in between. Survives reconnects of the broker, and a broker that comes
        back with an empty store, without missing the newest value of any key; keys lost that way come as
        deletions with ``lost=True``. The iterator ends only when closed (``contextlib.aclosing``) or with the bus.
        """
        ...


class ObjectStore(Protocol):
    """A bucket of large values (JetStream object store)."""

    async def put(self, name: str, data: bytes, progress: Callable[[int], None] | None = None) -> None:
        """Store `data` under `name`; nothing is sent when it is there already with the same size and
        digest."""
        ...

    async def get(self, name: str, progress: Callable[[int], None] | None = None) -> bytes | bytearray:
        """Return the object. Raises NotFoundError."""
        ...

    async def exists(self, name: str) -> bool:
        """Whether `name` is stored."""
        ...

    async def sizes(self) -> dict[str, int]:
        """Bytes of all objects, by name."""
        ...

    async def delete(self, name: str) -> None:
        """Delete; no error when absent."""
        ...


@dataclass(frozen=True)
class Bounds:
    """What a journal keeps: the oldest messages beyond any of these are discarded."""

    bytes: int
    """Of all messages with their subjects and headers."""
    age_s: float
    per_subject: int
    """Messages of one subject; -1: no bound of their own."""
    duplicate_s: float
    """A message with the id of one that was stored this lately is not stored again, s."""
    heard_on: str = ""
    """Where given, a pattern that ends in ``>`` as the journal's does: a message that was stored is then sent to the
    subscribers of this subject; one that was not stored again is not sent either."""
    ages: bool = False
    """Whether each message may have an age of its own."""
    append_only: bool = False
    """Whether nobody may take out messages: the broker refuses to purge or delete, for good."""


@dataclass(frozen=True)
class JournalEntry:
    """One message of a journal; sequences count from 1 over all of its subjects."""

    sequence: int
    subject: str
    data: bytes
    id: str = ""
    """Of :meth:`Journal.last` only."""


@dataclass(frozen=True)
class Place:
    """Where a reader of a journal reads on."""

    sequence: int = 0
    """Behind this one; 0: from the oldest message."""
    journal: str = ""
    """The journal that `sequence` is of, as a page names it; empty: the present one. A broker that lost its store has
    another one, which is read from its beginning."""
    age_s: float | None = None
    """Where given: from the messages stored in the last `age_s` s, instead of behind `sequence`; 0: only newer ones."""


@dataclass(frozen=True)
class Page:
    """Some messages of a journal, oldest first, and where to read on."""

    entries: tuple[JournalEntry, ...]
    place: Place
    more: bool
    """Whether there may be more now."""


class Journal(Protocol):
    """A bounded log of the messages on some subjects, kept by the broker (a JetStream stream).

    Subscribers of these subjects receive its messages too, as any others; see :func:`hams_shared.bus.journal.follow`.
    """

    async def publish(self, subject: str, data: bytes, id: str, age_s: float | None = None) -> int:
        """Send to all subscribers, store, and return the sequence once the broker has stored it.

        A message with the `id` of one stored within the bound is not stored again; then the sequence is that one's.
        It is discarded once it is `age_s` old, where the journal's bounds allow ages (a nats-server from 2.11 on).

        Raises:
            TooLargeError: larger than the broker takes.
            DeadlineError: not acknowledged in time; it may or may not have been stored.
            BrokerError: the broker refuses.
        """
        ...

    async def page(self, subject: str, place: Place, *, limit: int = 128, limit_bytes: int = 262_144) -> Page:
        """Return stored messages on `subject` (wildcards ``*`` and ``>``) from `place` on.

        At most `limit`, and no further one once they have `limit_bytes`. Raises DeadlineError, BrokerError.
        """
        ...

    async def erase(self, sequence: int) -> None:
        """Take a message out, and overwrite it on the broker's disk; no error when it is not there.

        Raises RefusedError where the journal is append-only, DeadlineError, BrokerError. Only the admin may.
        """
        ...

    async def last(self, subject: str) -> JournalEntry | None:
        """Return the newest stored message on `subject`, with its id; None: there is none. Raises as :meth:`page`."""
        ...

    async def discard(self, subject: str, before: int) -> None:
        """Discard the messages on `subject` whose sequence is less than `before`. Raises as :meth:`page`."""
        ...


class Registration(Protocol):
    """A service that answers."""

    async def stop(self) -> None:
        """Answer no more; idempotent."""
        ...


class Bus(Protocol):
    """A connection to the transport. Use as an async context manager."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the connection has ended for good."""
        ...

    @property
    def wakers(self) -> Wakers:
        """Woken when the connection has ended for good, among other things."""
        ...

    def check_open(self) -> None:
        """Raise BrokerError when the connection has ended for good."""
        ...

    @property
    def max_payload(self) -> int:
        """Largest message, bytes."""
        ...

    @property
    def user(self) -> str:
        """The broker's user that this connection is; empty: the broker knows no users."""
        ...

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send to all subscribers. Raises BrokerError when closed, or above :attr:`max_payload`."""
        ...

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "", limit: int = 1024) -> Subscription:
        """Call `handler` for each message on `subject` (wildcards ``*`` and ``>``); one member per `queue`
        group."""
        ...

    async def request(self, subject: str, data: bytes, *, timeout: float) -> Message:
        """Send and await one answer.

        Raises:
            NotFoundError: no client listens on `subject`.
            DeadlineError: no answer within `timeout` seconds.
            HamsError: the error that the answering service raised (see :meth:`serve`).
        """
        ...

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the broker has taken everything published and every subscription made so far."""
        ...

    async def kv(self, bucket: str, *, erase: bool = False) -> KeyValue:
        """Open a KV bucket, creating it when absent.

        With `erase` what is replaced or deleted by this client is overwritten on the broker's disk, at the price of
        two requests for each change; without, its bytes stay there until the broker happens to reuse their place.
        """
        ...

    async def objects(self, bucket: str) -> ObjectStore:
        """Open an object store, creating it when absent."""
        ...

    async def journal(self, name: str, subject: str, bounds: Bounds) -> Journal:
        """Open the journal of `subject` (with wildcards), creating it when absent; one that is there keeps its own."""
        ...

    async def serve(
        self,
        name: str,
        version: str,
        metadata: dict[str, str],
        endpoints: dict[str, tuple[str, Handler]],
        *,
        queue: str = SERVICE_QUEUE,
    ) -> Registration:
        """Register as a NATS micro service, visible to ``nats micro ls`` and ``$SRV`` pings.

        Its metadata names the machine it runs on, too (MACHINE). `endpoints` maps an endpoint's name to its subject
        and handler. A handler that raises a HamsError answers with it as a service error (headers ``Nats-Service-
        Error`` and ``Nats-Service-Error-Code``, the latter its exit code; the whole error as JSON in the body), which
        :meth:`request` raises again at the other end. Of the services with the same `queue` one gets each request;
        with a queue of its own each gets all, and the first answer counts.
        """
        ...
