"""The matrix's third dimension: for each node and device, the source and its variants, and which of them serves. Pure.

The fastest candidate serves, among those that the node's floor admits, that the device runs, and that fit into its
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hams_shared.bus.variant_registry import excluded
from hams_shared.group.spec import InputSpec
from hams_shared.wire.messages.agents import DeviceRecord, ProfileRecord, profile_key
from hams_shared.wire.messages.group import GroupRecord, ModelRef
from hams_shared.wire.messages.plan import VariantChoice
from hams_shared.wire.variants import VariantRecord, task_key

Variants = Mapping[str, Mapping[str, VariantRecord]]
"""By digest of the source, then by digest of the variant."""


@dataclass(frozen=True)
class Cell:
    """One cell of the FPS matrix: which measurement it is, and how to ask for it."""

    key: str
    model: str
    digest: str
    input_shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Candidate:
    """A network that may serve a node."""

    model: ModelRef
    takes: InputSpec
    label: str = ""
    """Empty: the source."""
    agreement: float = 1.0
    own_input: bool = False
    """Whether `takes` is not what the node says."""

    def cell(self, device: DeviceRecord) -> Cell:
        """The cell that says how fast it is on `device`."""
        shape = self.takes.shape()
        key = profile_key(self.model.digest, shape, device.fingerprint, device.runtime, device.precisions[0])
        return Cell(key, self.model.name, self.model.digest, shape, self.takes.dtype)


@dataclass(frozen=True)
class Choice:
    """What serves a node on one device, with the measurements of it and of the source (None: it does not run there)."""

    candidate: Candidate
    profile: ProfileRecord
    source: ProfileRecord | None

    @property
    def variant(self) -> VariantChoice | None:
        """As plans say it; None for the source."""
        if not self.candidate.label:
            return None
        return VariantChoice(
            model=self.candidate.model,
            label=self.candidate.label,
            agreement=self.candidate.agreement,
            input=self.candidate.takes if self.candidate.own_input else None,
            fps=self.profile.fps,
            source_fps=self.source.fps if self.source else 0.0,
        )

    @property
    def bought(self) -> str:
        """What a variant gives; empty for the source."""
        if not self.candidate.label:
            return ""
        what = f"{self.candidate.label} (agreement {self.candidate.agreement:.3f}): {self.profile.fps:.4g}"
        return f"{what} instead of {self.source.fps:.4g} FPS" if self.source else f"{what} FPS; the source does not run"


def comparable(profile: ProfileRecord, source: ProfileRecord | None) -> ProfileRecord:
    """The measurement of a variant as it would have been when its source was measured.

    A processor's speed changes within minutes, and then a variant looks slower than its source only because it was
    measured later. Where both were measured in turns, their ratio is what counts.
    """
    if source is None or source.digest != profile.beside or source.fps <= 0 or profile.beside_fps <= 0:
        return profile
    faster = source.fps / profile.beside_fps
    return profile.model_copy(
        update={
            "fps": profile.fps * faster,
            "fps_batch": profile.fps_batch * faster,
            "p50_ms": profile.p50_ms / faster,
            "p99_ms": profile.p99_ms / faster,
            "beside_fps": source.fps,
        }
    )


def candidates(group: GroupRecord, node: str, variants: Variants) -> tuple[Candidate, ...]:
    """The source and the variants that the node's floor admits, the source first, then those that agree best."""
    spec = group.spec.nodes[node]
    source = group.models[node]
    admitted = [
        Candidate(
            model=record.model,
            takes=record.made.input or spec.input,
            label=record.short_label,
            agreement=record.agreements[task_key(spec)].value,
            own_input=record.made.input is not None,
        )
        for record in variants.get(source.digest, {}).values()
        if not excluded(record, spec)
    ]
    admitted.sort(key=lambda c: (-c.agreement, c.model.digest))
    return (Candidate(source, spec.input), *admitted)


def choose(
    among: tuple[Candidate, ...],
    measured: Callable[[Candidate], ProfileRecord | None],
    memory_mib: Callable[[Candidate], float],
    capacity_mib: float,
    *,
    smallest: bool = False,
) -> Choice | None:
    """The fastest (or `smallest`) of `among`, the source first, that runs and fits; of equals the first.

    None: none runs. Where none fits, the fastest: what is said then is that it does not fit.
    """
    running = [(c, p) for c in among if (p := measured(c)) is not None and p.reason is None and p.fps > 0]
    if not running:
        return None
    fitting = [(c, p) for c, p in running if memory_mib(c) <= capacity_mib] or running
    candidate, profile = max(fitting, key=lambda pair: -memory_mib(pair[0]) if smallest else pair[1].fps)
    source = next((p for c, p in running if not c.label), None)
    return Choice(candidate, profile, source)
