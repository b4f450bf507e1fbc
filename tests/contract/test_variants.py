"""Variants in KV: what several optimizers find out about one variant adds up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hams_shared.bus.variant_registry import parse_key, register, variant_key
from hams_shared.errors import BadInputError
from hams_shared.wire import codec
from hams_shared.wire.variants import VariantRecord, task_key
from support.build import group_spec, model_ref, variant

SPEC = group_spec(nodes=("det", "n0", "n1", "n2", "n3"))
SOURCE = model_ref("source")


async def test_what_is_found_out_for_several_nodes_at_once_adds_up(connect: Any, name: str) -> None:
    nodes = [
        node.model_copy(update={"task": node.task.model_copy(update={"type": task})})
        for node, task in zip(SPEC.nodes.values(), ("raw", "text", "embedding", "regression", "yolo"), strict=True)
    ]
    records = [variant(SOURCE, node, 0.9 + i / 100) for i, node in enumerate(nodes)]
    async with connect() as bus:
        kv = await bus.kv(name)
        await asyncio.gather(*(register(kv, SOURCE, record) for record in records))
        [(key, entry)] = (await kv.entries()).items()
        assert parse_key(key) == (SOURCE.digest, records[0].model.digest)
        found = codec.decode(VariantRecord, entry.value)
        assert {k: a.value for k, a in found.agreements.items()} == {
            task_key(node): 0.9 + i / 100 for i, node in enumerate(nodes)
        }
        await register(kv, SOURCE, variant(SOURCE, nodes[0], 0.5))
        again = await kv.get(key)
        assert again is not None
        assert codec.decode(VariantRecord, again.value).agreements[task_key(nodes[0])].value == 0.5


async def test_a_network_is_no_variant_of_itself(connect: Any, name: str) -> None:
    record = variant(SOURCE, SPEC.nodes["det"], 1.0)
    async with connect() as bus:
        with pytest.raises(BadInputError, match="source itself"):
            await register(await bus.kv(name), record.model, record)


@pytest.mark.parametrize("key", ["", "a.b", f"{SOURCE.digest}", f"{SOURCE.digest}.{SOURCE.digest}.x", "A" * 64])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(BadInputError, match=r"SOURCE\.VARIANT"):
        parse_key(key)
    assert parse_key(variant_key(SOURCE.digest, SOURCE.digest)) == (SOURCE.digest, SOURCE.digest)


async def test_a_record_of_an_older_version_is_replaced(connect: Any, name: str) -> None:
    record = variant(SOURCE, SPEC.nodes["det"], 0.9)
    old = record.model_copy(update={"made": record.made.model_copy(update={"settings": {"shrunk": "0.5"}})})
    key = variant_key(SOURCE.digest, record.model.digest)
    async with connect() as bus:
        kv = await bus.kv(name)
        await kv.create(key, codec.encode(old))
        await register(kv, SOURCE, record)
        entry = await kv.get(key)
        assert entry is not None
        assert codec.decode(VariantRecord, entry.value) == record
