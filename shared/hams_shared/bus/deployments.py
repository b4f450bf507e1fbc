"""Deployed groups as people change them: compare and set, and the last versions of each group.

KV ``groups/<group>`` holds what runs, and is the only authority for it. KV ``versions/<group>.<version>`` holds what
ran before: a record is put there just before another one takes its place. So after a crash between the two writes the
history holds what runs a second time, and :meth:`Deployments.versions` shows it once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hams_shared.bus.protocol import Bus, Entry, KeyValue
from hams_shared.errors import ConflictError, HamsError, MessageError, NotFoundError, RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord, VersionRecord

log = logging.getLogger(__name__)

KEPT = 10
"""Versions of a group that are kept beside the one that runs."""
UNDEPLOYED_S = 30 * 86_400.0
"""How long the versions of a group that is undeployed are kept, s."""


Kept = dict[str, dict[int, Entry]]
"""Entries of the history by group and version."""


@dataclass(frozen=True)
class Running:
    """A group as it runs: what a change is made from."""

    name: str
    record: GroupRecord | None = None
    """None: it is not deployed, or its record cannot be read."""
    revision: int = 0
    """Of its key; 0: it is not deployed."""


@dataclass(frozen=True)
class Version:
    """One version of a group."""

    record: GroupRecord
    ended_at: float | None = None
    """When another one took its place or it was undeployed, Unix time, s; None: it runs."""

    @property
    def number(self) -> int:
        """Counted from 1; 0: of a HAMS that did not count."""
        return self.record.version


class Deployments:
    """The groups of a site. `now` is Unix time, s."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def running(self, name: str) -> Running:
        """Return the group as it runs."""
        entry = await (await self._groups()).get(name)
        return _running(name, entry)

    async def write(self, record: GroupRecord, base: Running, by: str, now: float) -> GroupRecord:
        """Write `record`, which was made from `base`, as the next version, and return it as it was written.

        Raises:
            ConflictError: someone else has changed the group since `base` was read.
        """
        groups, history = await self._groups(), await self._history()
        await self._check(groups, base)
        kept = _by_group(await history.entries())
        known = [0, *kept.get(base.name, {}), *([base.record.version] if base.record else [])]
        new = record.model_copy(update={"version": max(known) + 1, "by": by})
        await self._keep(history, kept, base, now)
        try:
            if base.revision:
                await groups.update(base.name, codec.encode(new), base.revision)
            else:
                await groups.create(base.name, codec.encode(new))
        except RefusedError:
            found = await self.running(base.name)
            if found.record != new:  # else the broker's answer to a first try was lost
                raise conflict(base.name, found) from None
        await self._prune(groups, history, kept, now)
        return new

    async def remove(self, base: Running, now: float) -> None:
        """Undeploy; the group's versions are kept for a while. Raises ConflictError as :meth:`write`."""
        groups, history = await self._groups(), await self._history()
        await self._check(groups, base)
        kept = _by_group(await history.entries())
        await self._keep(history, kept, base, now)
        try:
            await groups.delete(base.name, base.revision)
        except RefusedError:
            raise conflict(base.name, await self.running(base.name)) from None
        await self._prune(groups, history, kept, now)

    async def versions(self, name: str) -> list[Version]:
        """Return what runs and what ran before, the newest version first. Raises NotFoundError: nothing is known."""
        groups, history = await self._groups(), await self._history()
        entry = await groups.get(name)
        found = _running(name, entry).record
        kept = _by_group(await history.entries())
        versions = {} if found is None else {found.version: Version(found)}
        for number, one in kept.get(name, {}).items():
            if number not in versions and (record := _version(name, number, one)) is not None:
                versions[number] = Version(record.record, record.ended_at)
        if not versions:
            known = ", ".join(sorted({*await groups.entries(), *kept})) or "none"
            raise NotFoundError(f"there is no group {name}, and no version of it is kept", f"there are: {known}")
        return [versions[number] for number in sorted(versions, reverse=True)]

    async def _check(self, groups: KeyValue, base: Running) -> None:
        found = _running(base.name, await groups.get(base.name))
        if found.revision != base.revision:
            raise conflict(base.name, found)

    async def _groups(self) -> KeyValue:
        return await self._bus.kv(subjects.bucket("groups"))

    async def _history(self) -> KeyValue:
        return await self._bus.kv(subjects.bucket(subjects.VERSIONS))

    async def _keep(self, history: KeyValue, kept: Kept, base: Running, now: float) -> None:
        if base.record is not None:
            key, number = f"{base.name}.{base.record.version}", base.record.version
            value = codec.encode(VersionRecord(record=base.record, ended_at=now))
            kept.setdefault(base.name, {})[number] = Entry(key, value, await history.put(key, value))

    async def _prune(self, groups: KeyValue, history: KeyValue, kept: Kept, now: float) -> None:
        """Delete what is beyond the bounds; what cannot be deleted now is next time."""
        try:
            deployed = await groups.entries()
            for name, versions in kept.items():
                over = name not in deployed and _over(name, versions, now)
                for number in sorted(versions) if over else sorted(versions)[:-KEPT]:
                    await history.delete(f"{name}.{number}")
        except HamsError as error:
            log.warning("old versions of groups are left: %s", error)


def version_of(name: str, versions: Sequence[Version], number: int | None) -> Version:
    """Return the version with this number, or for None the newest that does not run. Raises NotFoundError."""
    running = next((one.number for one in versions if one.ended_at is None), math.inf)
    found = [one for one in versions if (one.number < running if number is None else one.number == number)]
    if not found:
        what = f"group {name} has no earlier version" if number is None else f"no version {number} of {name} is kept"
        raise NotFoundError(what, f"kept: {', '.join(str(one.number) for one in versions)}; see `hams-ctl versions`")
    return found[0]


def conflict(name: str, found: Running) -> ConflictError:
    """Return the error for a change of `name` that was made from another record than `found`."""
    record, hint = found.record, f"look with `hams-ctl diff` or `hams-ctl versions {name}`, then do it again"
    if not found.revision:
        return ConflictError(f"group {name} was undeployed meanwhile: {_NOT_MADE}", hint)
    if record is None:
        return ConflictError(f"group {name} was deployed by someone else meanwhile: {_NOT_MADE}", hint)
    at = datetime.fromtimestamp(record.deployed_at).astimezone()
    who = record.by or "someone else"
    text = f"group {name} was changed by {who} at {at:%Y-%m-%d %H:%M:%S}: version {record.version} runs now"
    return ConflictError(f"{text}, and {_NOT_MADE}", hint)


_NOT_MADE = "your change of it was not made"


def overtaken(mine: GroupRecord, found: Running) -> HamsError:
    """Return the error for who waits until `mine` serves when the group is `found` instead: changed, or undeployed."""
    name, record = mine.spec.name, found.record
    of = name if mine.candidate is None else mine.candidate.of
    hint = f"see `hams-ctl versions {of}`"
    if found.revision:
        version = f"version {record.version}" if record is not None and record.version else "another version"
        who = (record.by if record is not None else "") or "someone else"
        return ConflictError(f"group {name}: {version} by {who} took the place of yours", hint)
    if mine.candidate is not None:
        return NotFoundError(f"the candidate for group {of} was promoted or dropped meanwhile", hint)
    return NotFoundError(f"group {name} was undeployed meanwhile", hint)


def _running(name: str, entry: Entry | None) -> Running:
    if entry is None or entry.value is None:
        return Running(name)
    try:
        return Running(name, codec.decode(GroupRecord, entry.value), entry.revision)
    except MessageError as error:
        log.warning("the record of group %s cannot be read: %s", name, error)
        return Running(name, None, entry.revision)


def _by_group(entries: Mapping[str, Entry]) -> Kept:
    found: Kept = {}
    for key, entry in entries.items():
        name, _, number = key.rpartition(".")
        if number.isdecimal():
            found.setdefault(name, {})[int(number)] = entry
    return found


def _version(name: str, number: int, entry: Entry) -> VersionRecord | None:
    try:
        return codec.decode(VersionRecord, entry.value or b"")
    except MessageError as error:
        log.warning("version %d of group %s cannot be read: %s", number, name, error)
        return None


def _over(name: str, kept: Mapping[int, Entry], now: float) -> bool:
    """Whether the last version of an undeployed group ended too long ago; one of a later HAMS is kept."""
    last = _version(name, max(kept), kept[max(kept)])
    return last is not None and now - last.ended_at > UNDEPLOYED_S
