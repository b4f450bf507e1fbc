"""Which faults there are, and a plan of them from a seed. Pure."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

AGENTS = ("serving", "serving", "spare")
"""Whichever agent serves then, or the other; the more often named, the more often meant."""
LINKED = ("serving", "spare", "leader", "standby", "pipeline")
"""Parts with a link to the broker of their own; ``leader`` and ``standby`` are whichever scheduler leads then."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    text: str
    targets: tuple[str, ...]
    seconds: tuple[float, float]
    """How long it lasts, s: at least, at most. A killed part is started again after that."""
    weight: int = 2
    needs: frozenset[str] = frozenset()
    """What this run must have: ``mounts``, ``memory`` (a cgroup), ``clock`` (a C compiler), ``credentials``."""
    replaceable: bool = True
    """Whether others do its work meanwhile: frames must flow again while it lasts, too."""
    detect_s: float = 0.0
    """What the rule that finds it waits at least beyond the bar, s; see docs/reliability.md."""


def _kind(name: str, text: str, targets: Sequence[str], seconds: tuple[float, float], **more: object) -> Kind:
    return Kind(name, text, tuple(targets), seconds, **more)  # type: ignore[arg-type]


USERS = ("serving", "spare", "pipeline", "schedulers")
"""Parts by their users: both schedulers have one."""
ABORT_S = 0.2
"""From the begin of the fault to the next inference, and until the process has written the trace of all its threads."""
_MOUNTS = frozenset({"mounts"})
_CREDENTIALS = frozenset({"credentials"})
KINDS = {
    kind.name: kind
    for kind in (
        _kind("kill-agent", "kill -9", AGENTS, (0.3, 1.0), weight=4),
        _kind("stop-agent", "SIGSTOP, SIGCONT", AGENTS, (0.5, 4.0), weight=3),
        _kind("kill-scheduler", "kill -9", ("leader", "standby"), (0.3, 1.0), weight=3),
        _kind("stop-scheduler", "SIGSTOP, SIGCONT", ("leader", "standby"), (0.5, 5.0)),
        _kind("kill-pipeline", "kill -9", ("pipeline",), (0.25, 0.25), replaceable=False),
        _kind("stop-pipeline", "SIGSTOP, SIGCONT", ("pipeline",), (0.5, 3.0), replaceable=False),
        _kind("kill-broker", "kill -9", ("broker",), (0.2, 0.3), replaceable=False),
        _kind("stop-broker", "SIGSTOP, SIGCONT", ("broker",), (0.5, 3.0), replaceable=False),
        _kind("half-open", "nothing passes, nobody is told", LINKED, (1.0, 6.0), replaceable=False),
        _kind("cut", "connections are reset and refused", LINKED, (0.3, 2.0), replaceable=False),
        _kind("delay", "each packet 20 to 150 ms late", LINKED, (1.0, 3.0), replaceable=False),
        _kind("loss", "a tenth of the packets comes by retransmission", LINKED, (1.0, 3.0), replaceable=False),
        _kind("reorder", "messages of other parts overtake", LINKED, (1.0, 3.0), replaceable=False),
        _kind("clock-jump", "hours ahead or back", LINKED, (0.5, 1.0), needs=frozenset({"clock"})),
        _kind("store-full", "no byte left for the broker", ("store",), (1.0, 2.5), replaceable=False, needs=_MOUNTS),
        _kind("disk-full", "no byte left", ("cache", "logs"), (1.0, 2.5), needs=_MOUNTS),
        _kind("shm-full", "/dev/shm has no byte left", ("shm",), (1.0, 2.5), needs=_MOUNTS),
        _kind("out-of-memory", "the kernel kills it at its limit", AGENTS, (0.3, 1.0), needs=frozenset({"memory"})),
        _kind("slow-consumer", "reads 1 kB/s of everything", ("subscriber",), (1.0, 3.0)),
        _kind("stopped-consumer", "reads nothing of everything", ("subscriber",), (1.0, 3.0)),
        _kind("hang", "an inference never returns", AGENTS, (5.5, 6.0), weight=1, detect_s=5.0),
        _kind("fail", "every second inference fails", AGENTS, (2.0, 4.0)),
        _kind("nan", "inferences give NaN", AGENTS, (2.0, 4.0), weight=1),
        _kind("abort", "the driver ends the process", AGENTS, (1.0, 2.0), weight=1, detect_s=ABORT_S),
        _kind("gone", "the device is unplugged", AGENTS, (1.0, 2.0)),
        _kind("deploy-change", "priority and target are changed", ("grey",), (0.5, 1.0), weight=3),
        _kind("deploy-other", "another group comes and goes", ("other",), (1.0, 2.0)),
        _kind("revoke", "its key is revoked", USERS, (0.5, 3.0), replaceable=False, needs=_CREDENTIALS),
        _kind("rotate", "it gets another key", USERS, (0.5, 1.0), needs=_CREDENTIALS),
    )
}


@dataclass(frozen=True)
class Fault:
    """One fault of a plan."""

    kind: str
    target: str
    seconds: float
    value: float
    """0–1, for what the kind leaves open: by how much a clock jumps, how late packets are."""

    def __str__(self) -> str:
        return f"{self.kind} {self.target} for {self.seconds:g} s ({self.value:.2f})"


def plan(seed: int, count: int, kinds: Collection[str]) -> tuple[Fault, ...]:
    """Return `count` faults of these kinds; the same for the same arguments, and a prefix of a longer plan."""
    chance = random.Random(seed)
    chosen = [KINDS[name] for name in sorted(kinds)]
    return tuple(_fault(chance, chosen) for _ in range(count))


def _fault(chance: random.Random, kinds: Sequence[Kind]) -> Fault:
    kind = chance.choices(kinds, [one.weight for one in kinds])[0]
    seconds = round(chance.uniform(*kind.seconds), 2)
    return Fault(kind.name, chance.choice(kind.targets), seconds, round(chance.random(), 3))


def to_json(faults: Sequence[Fault]) -> str:
    """Return a plan as a file: one fault a line."""
    return "[\n" + ",\n".join(json.dumps(asdict(fault)) for fault in faults) + "\n]\n"


def from_json(text: str) -> tuple[Fault, ...]:
    """Read a plan. Raises ValueError: it is none."""
    try:
        faults = tuple(Fault(**one) for one in json.loads(text))
    except TypeError as error:
        raise ValueError(f"not a list of faults: {error}") from None
    for number, fault in enumerate(faults):
        kind = KINDS.get(fault.kind)
        if kind is None or fault.target not in kind.targets:
            raise ValueError(f"fault {number}: there is no {fault.kind} of {fault.target}")
    return faults
