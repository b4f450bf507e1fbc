"""A client that changes to another key without a pause: nothing is lost, repeated or reordered in between.

nats-py can only close a connection and make another; what others publish meanwhile is lost, and so is what was read and
not parsed. Here the second connection is made first (`handover`):

1. It authenticates with the new key, subscribes all that the first one has, and keeps what it receives.
2. The first one ends its subscriptions. Now each message was received by the first, the second, or both.
3. The client takes the second one's socket and parser, and delivers what that one kept, without the messages that the
   first one has delivered, too.
4. Answers to requests that came over the first connection still go out there for :data:`LATE_S`, since a broker lets a
   service answer only over the connection that received the request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import nats.errors
from nats.protocol.command import hpub_cmd, pub_cmd, sub_cmd, unsub_cmd

from hams_shared.bus.nats.tls import TlsClient
from hams_shared.errors import BrokerError
from hams_shared.runtime.credentials import Credentials
from hams_shared.runtime.lifecycle import ended

LATE_S = 10.0
"""How long requests that came over the first connection may be answered."""
STEP_S = 5.0
"""Deadline of each of the first two steps."""
MOST_KEPT = 65536
"""Most messages that the second connection keeps; the first two steps take some milliseconds."""

_Received = tuple[int, bytes, bytes, bytes, bytes]
"""Of a message: number of the subscription, subject, reply, data, headers."""


class HandoverClient(TlsClient):
    """nats-py's client with TLS, and :meth:`handover`."""

    _subs: dict[int, Any]
    _ps: Any

    def __init__(self) -> None:
        super().__init__()
        self._heard: Counter[_Received] | None = None
        """Messages received while a second connection receives them, too."""
        self._late: _Late | None = None
        self._held = False
        """Whether publishing waits."""

    async def handover(self, identity: Credentials, options: dict[str, Any]) -> None:
        """Go on over a new connection to the same broker, as `identity`; `options` are those of `connect`.

        Raises:
            nats.errors.Error, OSError, TimeoutError: the broker refuses it; the first connection goes on.
            BrokerError: more was received in the first step than is kept; the first connection goes on.
        """
        second = _Second(self._greets)
        first = self._transport
        try:
            async with asyncio.timeout(STEP_S):
                await second.connect([self._current_server.uri.geturl()], **options)
            sids = await self._begin(second)
            await self._end_first(sids)
            await second.stop()
            if self._transport is not first or not self.is_connected:
                raise nats.errors.StaleConnectionError
            self._switch(second, sids)
            self.adopt(identity)
            await self._deliver(second)
            self._reading_task = asyncio.get_running_loop().create_task(self._read_loop())
        finally:
            self._heard = None
            self._let_flow()
            await second.stop()
            second.close_socket()

    def adopt(self, identity: Credentials) -> None:
        """Use `identity` whenever this client connects from now on."""
        self._nkeys_seed_str = identity.seed
        self.options["tls"] = identity.tls()
        self._setup_nkeys_connect()

    async def _begin(self, second: _Second) -> set[int]:
        """Subscribe over the second connection what the first one has; return the subscriptions' numbers."""
        sids = set(self._subs)
        self._heard = Counter()
        second.subscribe(self._subs)
        async with asyncio.timeout(STEP_S):
            await second.flush()
        second.check()
        return sids

    async def _end_first(self, sids: set[int]) -> None:
        """End the first connection's subscriptions, and wait until the broker has taken all that it sent.

        From here on publishing waits in nats-py's buffer, so that nothing overtakes it on the second connection.
        """
        flusher, self._flusher_task = self._flusher_task, asyncio.create_task(asyncio.Event().wait(), name="no flusher")
        self._held = True
        if flusher is not None:
            await ended({flusher})
        try:
            self._transport.writelines(self._pending[:])
            self._pending, self._pending_data_size = [], 0
            self._transport.write(b"".join(unsub_cmd(sid, 0) for sid in sids))
            async with asyncio.timeout(STEP_S):
                await self._transport.drain()
                answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
                self._pongs.append(answered)
                self._transport.write(b"PING\r\n")
                await answered
        except BaseException:
            # The first connection has broken meanwhile, or does not answer: nats-py makes another one.
            await self._process_op_err(nats.errors.StaleConnectionError())
            raise

    def _let_flow(self) -> None:
        """Send what waits from now on."""
        if self._held:
            self._held = False
            self._flusher_task.cancel()
            self._flusher_task = asyncio.get_running_loop().create_task(self._flusher())

    def _switch(self, second: _Second, sids: set[int]) -> None:
        """Take the second connection's socket, and subscribe there what has come since."""
        if self._reading_task is not None:
            self._reading_task.cancel()
        if self._late is not None:
            self._late.close()
        self._late = _Late(self._transport, self._inbox_prefix.decode() + ".")
        second.subscribe({sid: sub for sid, sub in self._subs.items() if sid not in sids})
        second.give(self)
        self._pings_outstanding = 0

    async def _deliver(self, second: _Second) -> None:
        """Deliver what the second connection kept, but nothing twice."""
        heard = self._heard or Counter()
        self._heard = None
        for message in second.kept:
            if heard[message] > 0:
                heard[message] -= 1
                self._note(message)
            else:
                await self._process_msg(*message)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        message = (sid, subject, reply, data, headers)
        if self._heard is not None:
            self._heard[message] += 1
        self._note(message)
        await super()._process_msg(*message)

    def _note(self, message: _Received) -> None:
        if self._late is not None and self._late.open and message[2] and self._heard is None:
            self._late.newer.add(message[2].decode())

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if self._late is not None:
            self._late.close()
        await super()._close(status, do_cbs)

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish; a late answer over the connection that received the request."""
        if self._late is not None and self._late.owns(subject):
            self._late.publish(subject, payload, reply, headers)
        else:
            await super().publish(subject, payload, reply=reply, headers=headers)


class _Second(TlsClient):
    """The second connection until the client takes it: it keeps what it receives."""

    def __init__(self, greets: set[str]) -> None:
        super().__init__()
        self._greets = greets
        self.kept: list[_Received] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if len(self.kept) <= MOST_KEPT:
            self.kept.append((sid, subject, reply, data, headers))

    def check(self) -> None:
        """Raise BrokerError when more came than is kept."""
        if len(self.kept) > MOST_KEPT:
            raise BrokerError(f"more than {MOST_KEPT} messages came while the key was changed", "try again later")

    def subscribe(self, subs: dict[int, Any]) -> None:
        """Subscribe `subs` under the same numbers."""
        for sid, sub in subs.items():
            self._transport.write(sub_cmd(sub._subject, sub._queue, sid))
            if sub._max_msgs > 0:
                self._transport.write(unsub_cmd(sid, sub._max_msgs - sub._received))

    async def stop(self) -> None:
        """Read and send no more; idempotent."""
        await ended({task for task in (self._reading_task, self._flusher_task, self._ping_interval_task) if task})
        self._reading_task = self._flusher_task = self._ping_interval_task = None
        self._status = self.CLOSED

    def give(self, client: HandoverClient) -> None:
        """Hand socket, parser and what the broker said of itself over to `client`."""
        client._transport, self._transport = self._transport, None
        client._ps = self._ps
        client._ps.nc = client
        client._server_info, client._max_payload = self._server_info, self._max_payload
        client._client_id, client._client_ip = self._client_id, self._client_ip

    def close_socket(self) -> None:
        """Close the socket unless it was given away."""
        self._forget_transport()


class _Late:
    """The first connection after the change: only for answers to what it received."""

    def __init__(self, transport: Any, own_inbox: str) -> None:
        self._transport: Any = transport
        self._own_inbox = own_inbox
        self.newer: set[str] = set()
        """Where requests of the second connection want their answers."""
        self._timer = asyncio.get_running_loop().call_later(LATE_S, self.close)

    @property
    def open(self) -> bool:
        """Whether answers still go out over it."""
        return self._transport is not None

    def owns(self, subject: str) -> bool:
        """Whether `subject` is the inbox of a request that came over the first connection."""
        return (
            self.open
            and subject.startswith("_INBOX")
            and not subject.startswith(self._own_inbox)
            and subject not in self.newer
        )

    def publish(self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
        """Send one message."""
        if headers:
            lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
            self._transport.write(hpub_cmd(subject, reply, f"NATS/1.0\r\n{lines}\r\n".encode(), data))
        else:
            self._transport.write(pub_cmd(subject, reply, data))

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._timer.cancel()
        transport, self._transport = self._transport, None
        self.newer.clear()
        if transport is not None:
            with suppress(OSError, RuntimeError):
                transport._io_writer.transport.abort()
