"""Networks that fail on a device: what follows when an agent takes one out, and when it may run there again. Pure."""

from __future__ import annotations

from hams_scheduler import history, profiling
from hams_scheduler.state import SchedulerState
from hams_shared.wire.messages.agents import DeviceHealth, NetworkFault


def changed(state: SchedulerState, device: str, before: DeviceHealth | None, after: DeviceHealth | None) -> None:
    """Take a changed record of a device's faults: plan anew, and tell the history."""
    earlier, now = _out(before), _out(after)
    state.profiles.forgotten += earlier.keys() != now.keys()  # a network that is out is not measured
    for digest in now.keys() - earlier.keys():
        fault = now[digest]
        serves = _serves(state, device, digest)
        state.request_replan(f"{fault.model} is out on {device}: {fault.reason}", mandatory=serves)
        history.tell(state, "network-out", f"{fault.model} is out on {device}", fault.reason, device=device)
    for digest in earlier.keys() - now.keys():
        fault = earlier[digest]
        _forget(state, device, digest)
        profiling.request(state, fault.model, device, refused=True)
        state.request_replan(f"{fault.model} is tried again on {device}")
        on_trial = after is not None and digest in {one.digest for one in after.networks}
        reason = "its time is over, or its agent was started again" if on_trial else _RESUMED
        history.tell(state, "network-back", f"{fault.model} is tried again on {device}", reason, device=device)


_RESUMED = "by hams-ctl devices resume, or with another runtime"


def _out(health: DeviceHealth | None) -> dict[str, NetworkFault]:
    return {one.digest: one for one in health.networks if one.out} if health is not None else {}


def _forget(state: SchedulerState, device: str, digest: str) -> None:
    """Drop what the agent of `device` refused of a network, and that it did not measure it."""
    peer = state.devices.live.peers.get(device)
    if peer is not None:
        state.groups.banned.pop((peer.heartbeat.incarnation, digest), None)
        state.profiles.forget_network(peer.heartbeat.incarnation, digest)


def _serves(state: SchedulerState, device: str, digest: str) -> bool:
    """Whether a plan in force gives `device` a node with that network."""
    plans = (state.plans.serving(group) for group in state.plans.records)
    return any(
        plan.model_on(node, device).digest == digest
        for plan in plans
        if plan is not None
        for node in plan.nodes_on(device)
    )
