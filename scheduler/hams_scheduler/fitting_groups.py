"""Which groups fit together where not all of them do: the more important ones first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from hams_scheduler.variant_choice import PlanningSnapshot, node_name
from hams_shared.errors import InfeasibleError
from hams_shared.wire.messages.group import GroupRecord


class Part(NamedTuple):
    """A group that takes memory: placed anew, or by its plans that stay in force."""

    group: GroupRecord
    anew: bool


@dataclass
class FittingGroups:
    """The groups of `snapshot` that fit together.

    `place` raises InfeasibleError where groups do not fit. The order is: higher priority, then what does not wait for a
    device, then what serves now, then what was deployed first. A group that has no place keeps what its plans keep,
    unless groups before it need that.
    """

    snapshot: PlanningSnapshot
    place: Callable[[PlanningSnapshot], object]
    failed: dict[str, InfeasibleError]
    """By group: why it is left out."""
    gone: set[str] = field(default_factory=set)
    """Groups of `failed` whose plans cannot stay in force."""
    taken: tuple[Part, ...] = ()

    def find(self) -> PlanningSnapshot:
        """Return the snapshot with the groups that fit; the others are in `failed`."""
        stays = self.snapshot.staying
        ordered = sorted(self.snapshot.groups, key=self._order)
        parts = (Part(group, group.spec.name not in self.failed) for group in ordered)
        left = [part for part in parts if part.anew or part.group.spec.name in stays]
        while left:
            count, error = self._most(left)
            self.taken = (*self.taken, *left[:count])
            if error is None:
                break
            (group, anew), left = left[count], left[count + 1 :]
            if not anew:
                self.gone.add(group.spec.name)
                continue
            self.failed[group.spec.name] = error
            left = [Part(group, anew=False), *left] if group.spec.name in stays else left
        return self._with(self.taken)

    def _order(self, group: GroupRecord) -> tuple[int, bool, bool, float]:
        serves = node_name(group, group.spec.root) in self.snapshot.current
        return -group.spec.priority, self._waits(group), not serves, group.deployed_at

    def _waits(self, group: GroupRecord) -> bool:
        """Whether it has no place, and its plans wait for a device: meanwhile they give no results."""
        alive = {device.device for device in self.snapshot.devices}
        places = (self.snapshot.current.get(node_name(group, node), {}) for node in group.spec.nodes)
        return group.spec.name in self.failed and any(not on.keys() <= alive for on in places)

    def _most(self, left: list[Part]) -> tuple[int, InfeasibleError | None]:
        """How many of `left`, from the first, fit beside those that are taken, and why the next one does not."""
        most, too_many = 0, len(left)
        error = self._why_not(left)
        if error is None:
            return too_many, None
        while too_many - most > 1:
            middle = (most + too_many) // 2
            found = self._why_not(left[:middle])
            if found is None:
                most = middle
            else:
                too_many, error = middle, found
        return most, error

    def _why_not(self, more: list[Part]) -> InfeasibleError | None:
        """Why these do not fit beside those that are taken; None: they do.

        Whether they fit is the same for all strategies, and most of them search for long.
        """
        site = self._with((*self.taken, *more))
        try:
            if site.groups:
                self.place(replace(site, strategy="fastest"))
        except InfeasibleError as error:
            return error
        return None

    def _with(self, parts: tuple[Part, ...]) -> PlanningSnapshot:
        """The snapshot with these groups; the plans of groups that are not in it stay in any case."""
        names, stays = {group.spec.name for group in self.snapshot.groups}, self.snapshot.staying
        kept = {part.group.spec.name for part in parts if not part.anew}
        staying: Mapping[str, Mapping[str, float]] = {
            name: held for name, held in stays.items() if name in kept or name not in names
        }
        return replace(self.snapshot, groups=tuple(part.group for part in parts if part.anew), staying=staying)
