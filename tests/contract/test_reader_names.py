"""Names of durable readers in the broker's bucket: a further one takes the place of one that is needed least."""

from __future__ import annotations

from typing import Any

import pytest

from hams_services.pipeline import result_history
from hams_services.pipeline.result_history import ResultHistory
from hams_shared.errors import RefusedError
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.results import ResultsRequest


class Clock:
    """Set by hand."""

    at = 1000.0

    def now(self) -> float:
        return self.at


async def test_a_further_name_frees_one(connect: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_history, "READERS", 2)
    async with connect() as bus:
        clock, bucket = Clock(), await bus.kv(subjects.POSITIONS)
        history = ResultHistory(bus, lambda: {name: ("cam",)}, lambda: (name,), clock)  # type: ignore[arg-type]

        async def ask(reader: str, **more: Any) -> None:
            await history._answer(name, codec.encode(ResultsRequest(reader=reader, since_s=0.0, **more)))

        async def names() -> set[str]:
            return {key.rpartition(".")[2] for key in await bucket.entries() if key.startswith(f"{name}.reader.")}

        await ask("one", resume=True)
        await ask("two", resume=True)
        with pytest.raises(RefusedError, match="2 readers of the group are in use"):
            await ask("three", resume=True)
        clock.at += 30
        await ask("one", resume=True)  # it asks, and has not moved
        clock.at += 31
        await ask("three", resume=True)
        assert await names() == {"one", "three"}
        await bucket.delete(f"{name}.reader.one")  # its place is gone, and it reads on
        await ask("one", dealt=7)
        clock.at += 61
        await ask("four", dealt=9)  # a name is counted also where it does not resume
        assert await names() == {"one", "four"}
