"""The system that is soaked: four streams of one group, changed by a deploy each minute."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import yaml

from benchmarks.chaos.observer import Observer
from benchmarks.chaos.rig import ChaosRig
from benchmarks.soak.sample import sample
from hams_client import connect
from hams_shared.bus.control import Control
from hams_shared.errors import HamsError
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.variants import model_ref

NEAR = "box.emulated.a"
MOST_LATENCIES = 500_000


class Soak:
    """Deploys, samples and listens until stopped."""

    def __init__(self, folder: Path, deploy_s: float, sample_s: float, keep: str, logs: Path) -> None:
        self.samples: list[tuple[float, dict[str, float]]] = []
        """s since the start, figures."""
        self.latencies: deque[tuple[float, float]] = deque(maxlen=MOST_LATENCIES)
        """s since the start, ms."""
        self.deploys: list[str] = []
        self._folder = folder
        self._deploy_s, self._sample_s = deploy_s, sample_s
        self._keep = keep
        self._logs = logs
        self._begun = time.monotonic()
        self._results = 0
        self.exits: list[tuple[str, int]] = []
        """Parts that ended by themselves, with their exit codes; they were started again."""

    def counts(self) -> dict[str, float]:
        """What passed."""
        return {
            "results": self._results,
            "deploys": len(self.deploys),
            "ended": len(self.exits),
            "hours": (time.monotonic() - self._begun) / 3600,
        }

    async def run(self, stop: asyncio.Event, seconds: float) -> None:
        """Start the system; serve for so long, or until `stop` is set."""
        rig = ChaosRig(self._folder, 1)
        self.exits = rig.exits
        try:
            await rig.begin()
            async with connect(rig.url) as hams:
                observer = Observer(hams, "grey", frozenset())
                record = await self._deployed(rig, observer)
                self._begun = time.monotonic()
                tasks = [
                    asyncio.create_task(job)
                    for job in (
                        observer.collect(),
                        self._sample(rig, observer),
                        self._change(observer, record),
                        rig.keep(),
                    )
                ]
                stopped = asyncio.create_task(stop.wait())
                done, _ = await asyncio.wait([*tasks, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                await ended([*tasks, stopped])
                for task in done - {stopped}:
                    task.result()
        finally:
            await rig.end(self._logs)

    async def _deployed(self, rig: ChaosRig, observer: Observer) -> GroupRecord:
        main, _ = rig.groups()
        spec = yaml.safe_load(main.read_text())
        # on one device, so that latencies compare: the other one has no shared memory with the pipeline
        spec["nodes"] = {name: node | {"pin": [NEAR]} for name, node in spec["nodes"].items()}
        spec["results"] = {"keep": self._keep}
        played = spec["streams"]["kept"]
        modes = {"kept": "lossless", "live0": "live", "live1": "live", "live2": "live"}
        spec["streams"] = {name: played | {"mode": mode} for name, mode in modes.items()}
        main.write_text(yaml.safe_dump(spec))
        await observer.until_whole(2, 0, 60)
        await asyncio.to_thread(rig.ctl, "deploy", str(main))
        entry = await (await observer.hams.bus.kv(subjects.bucket("groups"))).get("grey")
        assert entry is not None
        assert entry.value is not None
        return codec.decode(GroupRecord, entry.value)

    async def _sample(self, rig: ChaosRig, observer: Observer) -> None:
        while True:
            now = time.monotonic() - self._begun
            with suppress(OSError):
                self.samples.append((now, await sample(rig, observer.hams)))
            self.latencies.extend((now, one) for one in observer.latencies)
            self._results += len(observer.latencies)
            observer.latencies.clear()
            observer.fresh.clear()
            await asyncio.sleep(self._sample_s)

    async def _change(self, observer: Observer, record: GroupRecord) -> None:
        """One change after another: another priority, a stream less, a stream more, another network."""
        control = Control(observer.hams.bus)
        for number in itertools.count():
            await asyncio.sleep(self._deploy_s)
            what = ("priority", "a stream less", "a stream more", "another network")[number % 4]
            try:
                changed = await _changed(control, record, what, number)
                changed = changed.model_copy(update={"deployed_at": time.time()})
                await control.deploy(changed)
                record = changed if what != "a stream less" else record
                self.deploys.append(what)
            except HamsError as error:
                self.deploys.append(f"{what}: {error}")
                print(f"deploy {number}: {error}", flush=True)


async def _changed(control: Control, record: GroupRecord, what: str, number: int) -> GroupRecord:
    """Return the group with one thing changed."""
    if what == "priority":
        spec = record.spec.model_copy(update={"priority": number % 10})
        return record.model_copy(update={"spec": spec})
    if what == "a stream less":
        streams = {name: one for name, one in record.spec.streams.items() if name != "live2"}
        return record.model_copy(update={"spec": record.spec.model_copy(update={"streams": streams})})
    if what == "a stream more":
        return record  # live2 again
    # The same network under another digest: what it was goes without use, and is collected in time.
    [(node, ref)] = record.models.items()
    store = await control.bus.objects(subjects.MODEL_STORE)
    old = bytes(await store.get(ref.parts[0].digest))
    data = _named(old, number)
    again = model_ref(ref.name, [(ref.parts[0].suffix, data)])
    await control.upload({again.digest: data}, lambda *_: None)
    return record.model_copy(update={"models": {node: again}})


def _named(network: bytes, number: int) -> bytes:
    """Return an ONNX network with a note in it, so that it has another digest."""
    import onnx

    model = onnx.load_from_string(network)
    model.doc_string = f"soak {number}"
    return bytes(model.SerializeToString(deterministic=True))
