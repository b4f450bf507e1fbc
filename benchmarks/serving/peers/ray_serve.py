"""Ray Serve: one deployment per device, which hosts the device's networks; the driver calls them and joins.

Serve runs in its throughput-optimised mode without access logs: 25 frames a second with the face group, not 17 to 20.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

os.environ |= {  # read when it is imported
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": f"{2**31 - 1}",  # a frame of 1080p is more than the usual 4 MiB
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a call that comes after the end is not to start another Ray
}

import ray
from ray import serve

from benchmarks.serving.case import Case, Crops, Node, Pixels, Score, descendants, open_device, pin, whole
from benchmarks.serving.peers.common import Answer, Done, Feed, end, environment, join, main, nodes_on, scratch

LOGS = {"log_level": "ERROR", "enable_access_log": False}
STORE_BYTES = 512 * 2**20
Work = dict[str, Crops]
Result = tuple[list[object], dict[str, Crops]]


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

    async def run(self, work: Work) -> dict[str, Result]:
        """Run nodes on one frame."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Work) -> dict[str, Result]:
        return {
            name: self._nodes[name].run(crops, crops.images[0] if name == self._root else None)
            for name, crops in work.items()
        }


def measure(case: Case) -> Score:
    """Deploy and measure."""
    spec = case.spec()
    under_way = case.window * case.streams * len(spec.nodes)
    handles: dict[str, Any] = {}
    for index, (device, names) in enumerate(nodes_on(case).items()):
        deployment = serve.deployment(Device).options(  # type: ignore[attr-defined]
            max_ongoing_requests=under_way, ray_actor_options={"num_cpus": 0}, logging_config=LOGS
        )
        handles[device] = serve.run(deployment.bind(case, device, names), name=f"device{index}", route_prefix=None)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def call(device: str, work: Work, answers: dict[str, Answer]) -> None:
        below: Work = {}
        for name, (items, cuts) in (await handles[device].run.remote(work)).items():
            answers[name] = items, work[name].sources
            below |= cuts
        await walk(below, answers)

    async def walk(work: Work, answers: dict[str, Answer]) -> None:
        """Give each device all it has to do at once: one call costs more than some of the networks."""
        parts: dict[str, Work] = {}
        for name, crops in work.items():
            parts.setdefault(case.device(name), {})[name] = crops
        await asyncio.gather(*(call(device, part, answers) for device, part in parts.items()))

    async def one_frame(frame: Pixels, done: Done) -> None:
        answers: dict[str, Answer] = {}
        await walk({spec.root: whole(frame)}, answers)
        done(len(join(spec, answers)))

    def check(future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            feed.fail(error)

    def submit(stream: int, place: int, frame: Pixels, done: Done) -> None:
        asyncio.run_coroutine_threadsafe(one_frame(frame, done), loop).add_done_callback(check)

    feed = Feed(case, submit)
    try:
        return feed.run().score(descendants(os.getpid()))
    finally:
        loop.call_soon_threadsafe(loop.stop)


def run(case: Case) -> Score:
    """Start Ray on this host for one measurement."""
    with scratch() as folder:
        os.environ |= {**environment(), "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
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
            serve.start(proxy_location="Disabled", logging_config=LOGS)
            return measure(case)
        finally:
            ours = descendants(os.getpid())[1:]
            ray.shutdown()
            end(ours)


if __name__ == "__main__":
    main(run)
