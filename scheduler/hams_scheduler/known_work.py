"""What a node does per frame, by what is known now: what is expected, corrected by what was observed. Pure."""

from __future__ import annotations

from hams_scheduler.expected_work import Work
from hams_scheduler.learning import Learned
from hams_shared.wire.messages.group import GroupRecord


def known_work(learned: Learned, record: GroupRecord, node: str) -> Work:
    """Return the inferences and pieces of work of `node` per frame, and the rules that lower them."""
    spec, agreements = record.spec, learned.agreements.get(record.spec.name)
    work = learned.expected.of(spec, node, agreements)
    images = learned.weight(spec.name, node, work.images)
    counted = learned.frames.of(spec.name, record.deployed_at)
    if counted is None:
        return Work(work.pieces * images, *work[1:])
    root = learned.expected.of(spec, spec.root, agreements).pieces
    pieces = counted.per_frame(node, work.pieces, root)
    return Work(pieces * images, pieces, work.whole, work.rules, measured=node in counted.pieces)
