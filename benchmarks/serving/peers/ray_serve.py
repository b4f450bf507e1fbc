"""Ray Serve: one deployment per device, which hosts the device's networks; the driver calls them and joins."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmarks.serving.case import Case, Crops, Node, Pixels, Score, descendants, open_device, pin, whole
from benchmarks.serving.peers.common import Answer, Done, Feed, end, environment, join, main, nodes_on, scratch

os.environ |= {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a router's last call would start Ray anew after its shutdown
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}
import ray
from ray import serve

STORE_BYTES = 512 * 2**20


class Device:
    """One thread, pinned to the device, that runs its nodes; more calls wait in line."""

    def __init__(self, case: Case, device: str, names: list[str]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._nodes: dict[str, Node] = self._thread.submit(self._open, case, device, names).result()
        self._root = case.spec().root

    @staticmethod
    def _open(case: Case, device: str, names: list[str]) -> dict[str, Node]:
        pin(case.devices[device])
        backend = open_device(case.devices[device])
        return {name: Node(case, name, backend) for name in names}

    async def run(self, name: str, crops: Crops) -> tuple[list[object], dict[str, Crops]]:
        """Run a node."""
        frame = crops.images[0] if name == self._root else None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._nodes[name].run, crops, frame)


def measure(case: Case) -> Score:
    """Deploy and measure."""
    spec = case.spec()
    under_way = case.window * case.streams * len(spec.nodes)
    handles: dict[str, Any] = {}
    for index, (device, names) in enumerate(nodes_on(case).items()):
        deployment = serve.deployment(Device).options(  # type: ignore[attr-defined]
            max_ongoing_requests=under_way, ray_actor_options={"num_cpus": 0}
        )
        handle = serve.run(deployment.bind(case, device, names), name=f"device{index}", route_prefix=None)
        handles |= dict.fromkeys(names, handle)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def walk(name: str, crops: Crops, answers: dict[str, Answer]) -> None:
        items, cuts = await handles[name].run.remote(name, crops)
        answers[name] = items, crops.sources
        if len(cuts) == 1:
            await walk(*next(iter(cuts.items())), answers)
        elif cuts:
            await asyncio.gather(*(walk(child, one, answers) for child, one in cuts.items()))

    async def one_frame(frame: Pixels, done: Done) -> None:
        answers: dict[str, Answer] = {}
        await walk(spec.root, whole(frame), answers)
        done(len(join(spec, answers)))

    def check(future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            feed.fail(error)

    def submit(stream: int, place: int, frame: Pixels, done: Done) -> None:
        asyncio.run_coroutine_threadsafe(one_frame(frame, done), loop).add_done_callback(check)

    feed = Feed(case, submit)
    meter = feed.run()
    return meter.score(descendants(os.getpid()))


def run(case: Case) -> Score:
    """Start Ray on this host for one measurement."""
    os.environ |= environment()
    with scratch() as folder:
        try:
            ray.init(
                address="local",
                num_cpus=1,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            serve.start(proxy_location="Disabled")
            return measure(case)
        finally:
            ours = descendants(os.getpid())[1:]
            ray.shutdown()
            end(ours)


if __name__ == "__main__":
    main(run)
