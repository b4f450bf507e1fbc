"""The plans of all groups, as a part of the scheduler's state, with indexes by device. Pure.

They are changed only through :class:`Plans`, which keeps the indexes; `validate()` compares these with the plans.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hams_scheduler.state_parts import check
from hams_shared.wire.messages.plan import Plan, PlanRecord


@dataclass
class Plans:
    """The plans of all groups, by device and by whether they wait for agents."""

    records: dict[str, PlanRecord] = field(default_factory=dict)
    epoch: int = 0
    adopting: set[str] = field(default_factory=set)
    """Groups of orphaned plans that are being written back."""
    pending: set[str] = field(default_factory=set)
    """Groups whose next plan is being loaded."""
    by_device: dict[str, set[str]] = field(default_factory=dict)
    """By device: groups whose active or next plan uses it."""
    revision: int = 0
    _active_on: dict[str, dict[str, Plan]] = field(default_factory=dict)
    """By device, then group: active plans that use it, where they were asked for since they changed."""
    _nodes_on: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    """Likewise, the nodes that it serves."""

    def put(self, record: PlanRecord) -> None:
        """Store a group's plans."""
        self.remove(record.group)
        self.records[record.group] = record
        self.epoch = max(self.epoch, record.newest)
        for device in _devices(record):
            self.by_device.setdefault(device, set()).add(record.group)
            self._changed_on(device)
        if record.next is not None:
            self.pending.add(record.group)

    def remove(self, group: str) -> PlanRecord | None:
        """Drop and return a group's plans."""
        self.revision += 1
        self.pending.discard(group)
        known = self.records.pop(group, None)
        for device in _devices(known) if known is not None else ():
            self._changed_on(device)
            self.by_device[device].discard(group)
            if not self.by_device[device]:
                del self.by_device[device]
        return known

    def _changed_on(self, device: str) -> None:
        self._active_on.pop(device, None)
        self._nodes_on.pop(device, None)

    def serving(self, group: str) -> Plan | None:
        """The newest plan of `group`, if it has one."""
        record = self.records.get(group)
        return (record.next or record.active) if record else None

    def active(self, group: str) -> Plan | None:
        """The active plan of `group`, if it has one."""
        record = self.records.get(group)
        return record.active if record else None

    def active_on(self, device: str) -> dict[str, Plan]:
        """By group, sorted: the active plans that use `device`; kept, since every heartbeat needs them."""
        known = self._active_on.get(device)
        if known is None and device not in self.by_device:
            return {}
        if known is None:
            known = self._active_on[device] = self._find_active_on(device)
        return known

    def nodes_on(self, device: str) -> dict[str, tuple[str, ...]]:
        """By group, sorted: the nodes that `device` serves in active plans, parents first; kept."""
        known = self._nodes_on.get(device)
        if known is None:
            known = {group: plan.nodes_on(device) for group, plan in self.active_on(device).items()}
            if device in self.by_device:
                self._nodes_on[device] = known
        return known

    def _find_active_on(self, device: str) -> dict[str, Plan]:
        plans = {group: self.records[group].active for group in sorted(self.by_device.get(device, ()))}
        return {group: plan for group, plan in plans.items() if plan is not None and device in plan.devices}

    def validate(self) -> None:
        """Raise StateError unless epochs, indexes and plans fit together."""
        for group, record in self.records.items():
            _check_record(group, record)
            check(self.epoch >= record.newest, f"epoch {self.epoch} is below {record.newest} of group {group}")
        pending = {group for group, record in self.records.items() if record.next is not None}
        check(pending == self.pending, f"pending plans are {pending}, not {self.pending}")
        places = {(device, group) for group, record in self.records.items() for device in _devices(record)}
        index = {(device, group) for device, groups in self.by_device.items() for group in groups}
        check(places == index, "the index of plans by device is out of date")
        for device, known in self._active_on.items():
            check(known == self._find_active_on(device), f"the active plans on {device} are out of date")
        for device, nodes in self._nodes_on.items():
            fresh = {group: plan.nodes_on(device) for group, plan in self._find_active_on(device).items()}
            check(nodes == fresh, f"the nodes on {device} are out of date")


def _devices(record: PlanRecord) -> set[str]:
    return {device for plan in (record.active, record.next) if plan is not None for device in plan.devices}


def _check_record(group: str, record: PlanRecord) -> None:
    check(record.group == group, f"the plan of {group} is that of {record.group}")
    for plan in (record.active, record.next):
        if plan is not None:
            _check_plan(group, plan)
    if record.active is not None and record.next is not None:
        check(record.next.epoch > record.active.epoch, f"the next plan of {group} is not newer than the active one")


def _check_plan(group: str, plan: Plan) -> None:
    check(plan.group.spec.name == group, f"plan {plan.epoch} of {group} is made for {plan.group.spec.name}")
    check(plan.shares.keys() == plan.group.spec.nodes.keys(), f"plan {plan.epoch} of {group} misses or adds nodes")
    shared = all(places and all(share > 0 for share in places.values()) for places in plan.shares.values())
    check(shared, f"plan {plan.epoch} of {group} leaves a node without a device")
