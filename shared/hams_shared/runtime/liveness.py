"""Which agents are alive, by their heartbeats. Pure; the scheduler and the pipeline use it."""

from __future__ import annotations

from dataclasses import dataclass, field

from hams_shared.wire.messages.agents import Heartbeat
from hams_shared.wire.subjects import LOST_AFTER_S

STALL_S = 0.75
"""A listener that looked this long ago was not running, s."""

STALLS = 3
"""So many gaps of a listener in a row do not count as a peer's silence, however long they are. Without a heartbeat
between them, the next ones count: a listener that is always slow has to notice a loss, too."""


@dataclass
class Peer:
    """One agent as its heartbeats show it."""

    heartbeat: Heartbeat
    seen: float
    """When the newest heartbeat arrived, on the listener's own monotonic clock, s."""
    stalls: int = 0
    """Gaps of the listener since then."""


@dataclass
class Liveness:
    """All agents heard of. Times are the listener's monotonic clock, so skewed clocks of hosts do not matter."""

    lost_after: float = LOST_AFTER_S
    peers: dict[str, Peer] = field(default_factory=dict)
    _looked: float | None = None

    def heard(self, heartbeat: Heartbeat, now: float) -> str | None:
        """Take a heartbeat; return ``"new"`` or ``"restarted"`` when it begins a life, None when it goes on."""
        known = self.peers.get(heartbeat.device)
        self.peers[heartbeat.device] = Peer(heartbeat, now)
        if known is None:
            return "new"
        if known.heartbeat.incarnation != heartbeat.incarnation:
            return "restarted"
        return None

    def expire(self, now: float) -> list[str]:
        """Forget and return the agents without heartbeats for `lost_after` s, sorted. Called several times a second.

        A listener that did not look for longer than `STALL_S` was itself stopped or starved; heartbeats wait to be
        read, so that gap does not count; see `STALLS`.
        """
        gap = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        if gap > STALL_S:
            for peer in self.peers.values():
                peer.stalls += 1
                if peer.stalls <= STALLS:
                    peer.seen = max(peer.seen, min(now, peer.seen + gap))
        lost = sorted(d for d, peer in self.peers.items() if now - peer.seen > self.lost_after)
        for device in lost:
            del self.peers[device]
        return lost

    def grant_grace(self, now: float, grace: float) -> None:
        """Do not count the time so far, in which heartbeats could not arrive, and wait `grace` s longer."""
        for peer in self.peers.values():
            peer.seen = max(peer.seen, now + grace)

    def forget(self, device: str) -> bool:
        """Drop an agent that announced its end; return whether it was known."""
        return self.peers.pop(device, None) is not None

    def ready(self, device: str, group: str, epoch: int) -> bool:
        """Whether `device` is alive and has loaded its part of plan `epoch` of `group`."""
        peer = self.peers.get(device)
        return peer is not None and any(
            a.group == group and a.epoch == epoch and a.state == "ready" for a in peer.heartbeat.assignments
        )
