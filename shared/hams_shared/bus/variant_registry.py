"""KV ``variants``: which variants may replace which deployed networks. Pure, but for :func:`register`.

The key is the digest of the deployed network (``GroupRecord.models[node].digest``) and that of the variant; the value
is a :class:`VariantRecord`, whose agreements are those with that network, by the node's task and
input. Its files lie in the object store, as those of all models.
"""

from __future__ import annotations

import re

from hams_shared.bus.protocol import KeyValue
from hams_shared.errors import BadInputError, MessageError, RefusedError
from hams_shared.group.node_spec import InputSpec, NodeSpec
from hams_shared.wire import codec
from hams_shared.wire.messages.group import ModelRef
from hams_shared.wire.variants import VariantRecord, shortfall

ATTEMPTS = 16
"""Tries at writing a record that others write as well."""

_KEY = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")


def variant_key(source: str, variant: str) -> str:
    """Return the KV key of `variant` of `source`, both digests of a ModelRef."""
    return f"{source}.{variant}"


def parse_key(key: str) -> tuple[str, str]:
    """Digests of source and variant. Raises BadInputError."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise BadInputError(f"{key!r} is no key of a variant", "it is SOURCE.VARIANT, both digests of models")
    return found[1], found[2]


def excluded(record: VariantRecord, node: NodeSpec) -> str:
    """Return why a variant may not serve `node`; empty when it may."""
    if node.variants is False:
        return "the group file allows no variants"
    precision = record.precision
    if isinstance(node.variants, tuple) and precision not in node.variants:
        return f"the group file allows {', '.join(node.variants) or 'none'}, not {precision}"
    takes = record.made.input
    if takes is not None and not _fits(takes, node.input):
        return (
            f"{record.label} takes {takes.fit} {takes.size[0]}×{takes.size[1]}, the node {node.input.fit} "
            + "×".join(map(str, node.input.size))
        )
    return shortfall(record, node, node.min_agreement)


def _fits(takes: InputSpec, given: InputSpec) -> bool:
    """Return whether images are prepared alike for both; a smaller letterbox has less padding."""
    if (takes.fit, takes.pad) != (given.fit, given.pad):
        return False
    smaller = all(a <= b for a, b in zip(takes.size, given.size, strict=True))
    return takes.size == given.size or (smaller and takes.fit == "letterbox")


async def register(bucket: KeyValue, source: ModelRef, record: VariantRecord) -> None:
    """Register `record` as a variant of `source`; its agreements for other nodes are kept.

    A record of an older version, which cannot be read any more, is replaced.

    Raises:
        BadInputError: it is the source itself.
        RefusedError: others kept writing it meanwhile.
    """
    if record.model.digest == source.digest:
        raise BadInputError(f"{record.label} of {source.name} is the source itself")
    key = variant_key(source.digest, record.model.digest)
    for _ in range(ATTEMPTS):
        entry = await bucket.get(key)
        try:
            if entry is None or entry.value is None:
                await bucket.create(key, codec.encode(record))
            else:
                await bucket.update(key, codec.encode(_merged_with(entry.value, record)), entry.revision)
            return
        except RefusedError:
            continue  # somebody was faster: read it again
    raise RefusedError(f"{record.label} of {source.name} is written by others all the time", "try again")


def _merged_with(old: bytes, new: VariantRecord) -> VariantRecord:
    try:
        return merged(codec.decode(VariantRecord, old), new)
    except MessageError:
        return new


def merged(old: VariantRecord, new: VariantRecord) -> VariantRecord:
    """Return `new`, with the agreements and failures of `old` for nodes that `new` has none for."""
    measured = new.agreements.keys() | new.failed.keys()
    return new.model_copy(
        update={
            "agreements": {k: v for k, v in old.agreements.items() if k not in measured} | new.agreements,
            "failed": {k: v for k, v in old.failed.items() if k not in measured} | new.failed,
        }
    )
