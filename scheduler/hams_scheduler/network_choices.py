"""Which network serves each node on each device, for all of a site at once. Pure.

A site of 1,000 nodes and 50 devices has 50,000 pairs, of which a plan uses 1,000. So what is known of a pair is put
together only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hams_scheduler.network import Network
from hams_shared.wire.messages.agents import ProfileRecord
from hams_shared.wire.messages.plan import VariantChoice

Measured = list[ProfileRecord | None]
"""The measurements of one network, by device."""


Chosen = tuple[list[int], list[ProfileRecord], list[float]]
"""The numbers of the devices where a node runs, with measurement and memory, MiB, of the network chosen there."""


class NetworkChoice(NamedTuple):
    """The network that serves a node on one device, with its measurement and the source's (None: it does not run)."""

    network: Network
    profile: ProfileRecord
    source: ProfileRecord | None
    memory_mib: float = 0.0
    """The most memory that any device measured."""

    @property
    def variant(self) -> VariantChoice | None:
        """The choice as a plan holds it; None for the source."""
        if not self.network.label:
            return None
        return VariantChoice(
            model=self.network.model,
            label=self.network.label,
            agreement=self.network.agreement,
            input=self.network.input if self.network.own_input else None,
            fps=self.profile.fps,
            source_fps=self.source.fps if self.source else 0.0,
        )

    @property
    def gain(self) -> str:
        """The gain of a variant over its source, as text; empty for the source."""
        if not self.network.label:
            return ""
        what = f"{self.network.label} (agreement {self.network.agreement:.3f}): {self.profile.fps:.4g}"
        return f"{what} instead of {self.source.fps:.4g} FPS" if self.source else f"{what} FPS; the source does not run"


@dataclass(frozen=True)
class Row:
    """What may serve one node: its networks, the source first, and which of them is chosen on each device."""

    networks: tuple[Network, ...]
    measured: tuple[Measured, ...]
    memory_mib: tuple[float, ...]
    """By network: the most that any device measured."""
    chosen: list[int]
    """By device: the number of the network; -1: none runs there."""

    def choice(self, column: int) -> NetworkChoice | None:
        """What is chosen on a device."""
        number = self.chosen[column]
        profile = self.measured[number][column] if number >= 0 else None
        if profile is None:
            return None
        source = self.measured[0][column]
        runs = source is not None and source.reason is None and source.fps > 0
        return NetworkChoice(self.networks[number], profile, source if runs else None, self.memory_mib[number])


class Choices(Mapping[tuple[str, str], NetworkChoice]):
    """By (``group/node``, device): what is chosen; a pair that cannot work is not there."""

    def __init__(self, devices: tuple[str, ...], rows: Mapping[str, Row]) -> None:
        self.devices = devices
        self.rows = rows
        self._column = {device: column for column, device in enumerate(devices)}

    def __getitem__(self, pair: tuple[str, str]) -> NetworkChoice:
        """Raises KeyError where nothing is chosen."""
        found = self.rows[pair[0]].choice(self._column[pair[1]])
        if found is None:
            raise KeyError(pair)
        return found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """All pairs that work."""
        return ((n, d) for n, row in self.rows.items() for d, k in zip(self.devices, row.chosen, strict=True) if k >= 0)

    def __len__(self) -> int:
        """How many pairs work."""
        return sum(number >= 0 for row in self.rows.values() for number in row.chosen)

    def row(self, name: str) -> Chosen:
        """What is chosen for one node."""
        row = self.rows[name]
        found = [(j, p, row.memory_mib[k]) for j, k in enumerate(row.chosen) if k >= 0 and (p := row.measured[k][j])]
        return [j for j, _, _ in found], [profile for _, profile, _ in found], [mib for _, _, mib in found]

    def same(self, other: Choices) -> bool:
        """Whether the other, of the same site, chooses alike."""
        return all(row.chosen == other.rows[name].chosen for name, row in self.rows.items())


def rows_of(chosen: Mapping[tuple[str, str], NetworkChoice], devices: Sequence[str]) -> Callable[[str], Chosen]:
    """Return what is chosen by the name of a node; `devices` are all of the site."""
    if isinstance(chosen, Choices):
        return chosen.row
    column = {device: j for j, device in enumerate(devices)}
    found: dict[str, Chosen] = {}
    for (name, device), choice in chosen.items():
        at, profiles, mib = found.setdefault(name, ([], [], []))
        at.append(column[device])
        profiles.append(choice.profile)
        mib.append(choice.memory_mib)
    return lambda name: found.get(name, ([], [], []))
