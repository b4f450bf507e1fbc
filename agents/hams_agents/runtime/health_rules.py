"""How the record of a device's faults changes: quarantine, networks taken out and tried again. Pure.

Times are Unix times, s: the record outlives processes and is read on other hosts. A clock that was set back leaves no
entry in the future.
"""

from __future__ import annotations

from dataclasses import dataclass

from hams_shared.runtime.backoff import Backoff
from hams_shared.wire.messages.agents import HANGS, DeviceHealth, NetworkFault

WINDOW_S = 900.0
"""Hangs and failures count for so long, s."""
PROBATION = Backoff(first=60.0, longest=3600.0)
"""How long a network that failed is out, s; twice as long each time, until it has served for `WINDOW_S`."""
ABORTS = 3
"""A network that ended the process so often is not tried again by time: the driver may have had a bad moment once."""


@dataclass(frozen=True)
class Network:
    """What a fault is of: a network on a runtime."""

    digest: str
    model: str
    runtime: str


def after_hang(health: DeviceHealth, what: str, now: float) -> DeviceHealth:
    """Return the record after one more hang."""
    return _counted(health.model_copy(update={"hangs": (*health.hangs, now)}), what, now)


def after_failure(health: DeviceHealth, what: str, now: float) -> DeviceHealth:
    """Return the record after the agent ended since the device fails, or crashed."""
    return _counted(health.model_copy(update={"failures": (*health.failures, now)}), what, now)


def _counted(health: DeviceHealth, what: str, now: float) -> DeviceHealth:
    hangs, failures = _recent(health.hangs, now), _recent(health.failures, now)
    times = len(hangs) + len(failures)
    kinds = [f"{kind} {len(of)}" for kind, of in (("hung", hangs), ("failed", failures)) if of]
    reason = f"{' and '.join(kinds)} times within {WINDOW_S / 60:.0f} min; last: {what}" if times > 1 else what
    quarantined = health.quarantined or times >= HANGS
    return health.model_copy(
        update={"hangs": hangs, "failures": failures, "quarantined": quarantined, "reason": reason}
    )


def _recent(times: tuple[float, ...], now: float) -> tuple[float, ...]:
    return tuple(at for at in times if abs(now - at) <= WINDOW_S)[-HANGS:]


def taken_out(health: DeviceHealth, network: Network, reason: str, now: float, *, aborts: bool = False) -> DeviceHealth:
    """Return the record once `network` gets no more work; one that `aborts` the process is tried again twice."""
    known = next((one for one in health.networks if one.digest == network.digest), None)
    if known is not None and known.out:
        return health
    strikes = known.strikes + 1 if known is not None else 1
    until = 0.0 if aborts and strikes >= ABORTS else now + PROBATION.pause(strikes)
    fault = NetworkFault(
        digest=network.digest,
        model=network.model,
        reason=reason,
        runtime=network.runtime,
        until=until,
        strikes=strikes,
    )
    others = tuple(one for one in health.networks if one.digest != network.digest)
    return health.model_copy(update={"networks": (*others, fault)})


def after_time(health: DeviceHealth, now: float) -> DeviceHealth:
    """Return the record at `now`: networks whose time is over are tried again, and forgotten after `WINDOW_S`."""
    networks = []
    for one in health.networks:
        if one.until and not now < one.until <= now + PROBATION.longest:
            if not one.out:
                continue
            one = _on_trial(one, now)
        networks.append(one)
    return health.model_copy(update={"networks": tuple(networks)})


def at_start(health: DeviceHealth, runtime: str, now: float) -> DeviceHealth:
    """Return the record when an agent has opened the device: it is there, and networks that failed are tried again.

    Those that are out for good are not. Faults of another runtime or driver are over.
    """
    networks = tuple(_on_trial(one, now) if one.until else one for one in health.networks if one.runtime == runtime)
    return health.model_copy(update={"gone": "", "networks": networks})


def _on_trial(fault: NetworkFault, now: float) -> NetworkFault:
    """The network may serve; if it does so for `WINDOW_S`, its fault is forgotten."""
    return fault.model_copy(update={"out": False, "until": now + WINDOW_S}) if fault.out else fault


def empty(health: DeviceHealth) -> bool:
    """Whether there is nothing to record."""
    return health == DeviceHealth(device=health.device)
