"""Memory that the networks of plans take of devices. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hams_scheduler.network import Network
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.plan import Plan


def networks_of(plans: Iterable[Plan | None]) -> Iterator[tuple[str, str, Network]]:
    """Device, node and network of all that these plans have loaded."""
    for plan in (plan for plan in plans if plan is not None):
        for node, places in plan.shares.items():
            for device in places:
                yield device, node, Network(plan.model_on(node, device), plan.input_on(node, device))


def most_mib(state: SchedulerState, network: Network) -> float:
    """The most memory that any device measured, MiB, as plans are made with."""
    measured = (state.profiles.records.get(network.key(device)) for device in state.devices.records.values())
    return max((one.memory_mib for one in measured if one is not None and one.reason is None), default=0.0)


def fits_beside(state: SchedulerState, plans: Mapping[str, Plan]) -> bool:
    """Whether devices have room for `plans`, by group, beside the active ones, which serve until these are loaded."""
    records = state.plans.records.items()
    before = _by_device(networks_of(record.active for _, record in records))
    other = _by_device(networks_of(record.next for group, record in records if group not in plans))
    for device, wanted in _by_device(networks_of(plans.values())).items():
        loaded = before.get(device, {}) | other.get(device, {})
        room = state.devices.records[device].memory_mib if device in state.devices.records else 0
        if not room or loaded.keys() >= wanted.keys():
            continue
        if sum(most_mib(state, network) for network in (loaded | wanted).values()) > room:
            return False
    return True


def _by_device(networks: Iterable[tuple[str, str, Network]]) -> dict[str, dict[str, Network]]:
    """By device, then key: each network once."""
    found: dict[str, dict[str, Network]] = {}
    for device, _, network in networks:
        found.setdefault(device, {})[network.key_begin] = network
    return found
