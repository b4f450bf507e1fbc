"""What if a site had other devices? A snapshot without some of them, and with twins of others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from hams_scheduler.variant_choice import PlanningSnapshot
from hams_shared.errors import BadInputError
from hams_shared.wire.messages.agents import DeviceRecord
from hams_shared.wire.messages.scheduler import PlanRequest, SupposedDevice
from hams_shared.wire.subjects import token

T = TypeVar("T")


def supposed(snapshot: PlanningSnapshot, request: PlanRequest) -> PlanningSnapshot:
    """Return `snapshot` with the devices that `request` supposes.

    A supposed device has the measurements of the one that it is like, and all that was learned of that one.

    Raises:
        BadInputError: a device is not there, or none would be left.
    """
    if not request.without and not request.added:
        return snapshot
    known = {device.device: device for device in snapshot.devices}
    for name in (*request.without, *(one.like for one in request.added)):
        if name not in known:
            raise BadInputError(f"there is no device {name} that is alive", f"there are {', '.join(known) or 'none'}")
    for one in request.added:
        device = _twin(known[one.like], one, known)
        known[device.device] = device
        snapshot = _learned_alike(snapshot, device.device, one.like)
    left = tuple(device for name, device in known.items() if name not in request.without)
    if not left:
        raise BadInputError("without these devices there is none left", "leave one, or add one")
    return replace(snapshot, devices=left)


def _twin(device: DeviceRecord, wanted: SupposedDevice, known: Mapping[str, DeviceRecord]) -> DeviceRecord:
    host = token(wanted.host) if wanted.host else device.host
    begin = f"{token(host)}.{device.backend}.{device.unit}"
    names = (begin, *(f"{begin}-{number}" for number in range(2, len(known) + 3)))
    return device.model_copy(update={"device": next(name for name in names if name not in known), "host": host})


def _learned_alike(snapshot: PlanningSnapshot, name: str, like: str) -> PlanningSnapshot:
    return replace(
        snapshot,
        kappa={**snapshot.kappa, **_pairs(snapshot.kappa, name, like)},
        cpu_factor={**snapshot.cpu_factor, **_pairs(snapshot.cpu_factor, name, like)},
        overhead=_one(snapshot.overhead, name, like),
        messages=_one(snapshot.messages, name, like),
        refused={**snapshot.refused, **{(g, name): why for (g, d), why in snapshot.refused.items() if d == like}},
        banned={**snapshot.banned, **{(name, of): why for (d, of), why in snapshot.banned.items() if d == like}},
    )


def _pairs(table: Mapping[tuple[str, int], float], name: str, like: str) -> dict[tuple[str, int], float]:
    return {(name, number): value for (device, number), value in table.items() if device == like}


def _one(table: Mapping[str, T], name: str, like: str) -> dict[str, T]:
    return {**table, name: table[like]} if like in table else dict(table)
