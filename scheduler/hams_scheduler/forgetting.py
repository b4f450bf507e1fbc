"""What was learned from serving and holds no longer, since a group was changed or undeployed. Pure.

What is learned is kept by name. Under the same name another video may be played, or a node may get other work: then the
observations of before would count for minutes.
"""

from __future__ import annotations

from collections.abc import Iterable

from hams_scheduler.expected_work import expected_work
from hams_scheduler.learning import Learned
from hams_shared.group.difference import Difference
from hams_shared.wire.messages.group import GroupRecord

READ_BY = frozenset({"source", "substream", "decode"})
"""Keys of a stream that decide what reading a frame costs."""


def reading(learned: Learned, group: str, changed: Difference) -> None:
    """Drop what frames cost to read of streams that are new, gone, or play something else."""
    other = {one.stream for one in changed.changes if one.stream and (len(one.keys) == 2 or one.keys[2] in READ_BY)}
    _drop_reading(learned, group, other)


def work(learned: Learned, old: GroupRecord, new: GroupRecord) -> None:
    """Drop how many inferences a piece of work took of the nodes of `new` that `old` gave something else, or not."""
    _drop_work(learned, new.spec.name, [node for node in new.spec.nodes if _given(old, node) != _given(new, node)])


def undeployed(learned: Learned, group: str) -> None:
    """Drop what was learned of the streams, nodes and devices of a group that is gone."""
    _drop_reading(learned, group, [stream for of, stream in learned.reading if of == group])
    _drop_work(learned, group, [node for of, node in learned.runs if of == group])
    learned.forget_placement(group)


def measured_faster(learned: Learned, device: str) -> None:
    """A network was measured again, and is faster: what serving showed beyond the old number counts no more.

    What was learned of networks that slow each other down there stays.
    """
    mean = learned.device_eta.get(device)
    if mean is None or mean.value(1.0, 0.0) <= 1.0:
        return
    del learned.device_eta[device]
    learned.eta = {one: eta for one, eta in learned.eta.items() if one[0] != device}
    learned.revision += 1


def _given(group: GroupRecord, node: str) -> tuple[object, ...]:
    """What decides how many inferences a piece of work of `node` takes: views, weights, and the networks above it."""
    nodes = group.spec.nodes
    if node not in nodes:
        return ()
    above: list[tuple[str, str]] = []
    while (parent := nodes[above[-1][0] if above else node].parent) is not None:
        above.append((parent, group.models[parent].digest))
    return (expected_work(group.spec, node).images, *above)


def _drop_reading(learned: Learned, group: str, streams: Iterable[str]) -> None:
    for stream in streams:
        learned.revision += learned.reading.pop((group, stream), None) is not None


def _drop_work(learned: Learned, group: str, nodes: Iterable[str]) -> None:
    for node in nodes:
        learned.revision += learned.runs.pop((group, node), None) is not None
