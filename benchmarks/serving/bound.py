"""What the devices can give: a bare process per device that runs the same networks on inputs made beforehand.

No messages, no video, nothing before or after the networks; with ``--steps`` HAMS's own steps before and after each
network too, one after another. The processes keep step: none is more than `AHEAD` frames before the slowest, since the
group is only as fast as that one.

With ``--queue``: the root's network alone in OpenVINO's asynchronous queue, on all cores of the case.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from benchmarks.serving.case import (
    Case,
    Crops,
    Node,
    Score,
    cores,
    descendants,
    frames,
    open_device,
    pin,
    pss_mib,
    whole,
)

AHEAD = 8
SAMPLES = 40
"""Frames whose inputs are made beforehand; then they come again."""
READY_S = 180.0


def walk(nodes: dict[str, Node], root: str, frame: Any) -> dict[str, Crops]:
    """Return every node's input for one frame."""
    inputs = {root: whole(frame)}
    todo = [root]
    while todo:
        name = todo.pop()
        _, crops = nodes[name].run(inputs[name], frame)
        inputs |= crops
        todo += crops
    return inputs


def assigned(places: dict[str, dict[str, float]], device: str) -> Iterator[list[str]]:
    """Yield, frame by frame, the nodes `device` runs: shares are kept as evenly as can be."""
    done = {node: dict.fromkeys(shares, 0) for node, shares in places.items()}
    while True:
        mine = []
        for node, shares in places.items():
            chosen = min(shares, key=lambda d: (done[node][d] + 1) / shares[d] if shares[d] > 0 else float("inf"))
            done[node][chosen] += 1
            if chosen == device:
                mine.append(node)
        yield mine


def _device(case: Case, device: str, steps: bool, places: list[Any], index: int, go: Any) -> None:
    """One device's process."""
    spec = case.spec()
    scout = open_device("openvino:CPU")
    nodes = {name: Node(case, name, scout) for name in spec.nodes}
    samples = [walk(nodes, spec.root, frame) for frame in itertools.islice(frames(case.video), SAMPLES)]
    pin(case.devices[device])
    backend = open_device(case.devices[device])
    mine = {name: Node(case, name, backend) for name, shares in case.places.items() if shares.get(device)}
    tensors = [{name: mine[name].prepare(one[name])[0] for name in mine if len(one[name].images)} for one in samples]
    pictures = [one[spec.root].images[0] for one in samples]
    for name, node in mine.items():
        for one in tensors[:5]:
            if name in one:
                node.network.infer(one[name])
    go.wait(READY_S)
    for number, work in enumerate(assigned(case.places, device)):
        sample = number % SAMPLES
        for name in work:
            if steps:
                mine[name].run(samples[sample][name], pictures[sample])
            elif name in tensors[sample]:
                mine[name].network.infer(tensors[sample][name])
        places[index].value = number + 1
        while number + 1 - min(place.value for place in places) > AHEAD:
            time.sleep(0.0002)


def run(case: Case, *, steps: bool) -> Score:
    """Measure it."""
    context = multiprocessing.get_context("spawn")
    devices = [device for device in case.devices if any(shares.get(device) for shares in case.places.values())]
    places: list[Synchronized[int]] = [context.Value("q", 0, lock=False) for _ in devices]  # type: ignore[misc]
    go = context.Barrier(len(devices) + 1)
    processes = [
        context.Process(target=_device, args=(case, device, steps, places, index, go), daemon=True)
        for index, device in enumerate(devices)
    ]
    for process in processes:
        process.start()
    try:
        go.wait(READY_S)
        time.sleep(case.warmup_s)
        begin, first = time.perf_counter(), min(place.value for place in places)
        time.sleep(case.seconds)
        fps = (min(place.value for place in places) - first) / (time.perf_counter() - begin)
        memory = sum(pss_mib(pid) for process in processes for pid in descendants(process.pid or 0))
    finally:
        for process in processes:
            process.kill()
            process.join(10)
    return Score(round(fps, 2), [round(fps, 2)], 0.0, 0.0, round(memory, 1))


def queue(case: Case) -> Score:
    """Measure the root's network alone, several requests at a time, on inputs made beforehand."""
    from benchmarks.serving.peers.openvino_async import AsyncBackend

    mine = cores(case)
    os.sched_setaffinity(0, mine)
    backend: Any = AsyncBackend(len(mine), 2 * len(mine))
    node: Any = Node(case, case.spec().root, backend)
    tensors = [node.prepare(whole(frame))[0] for frame in itertools.islice(frames(case.video), SAMPLES)]
    begin = time.perf_counter() + case.warmup_s
    first = counted = 0
    for tensor in itertools.cycle(tensors):
        now = time.perf_counter()
        if now >= begin + case.seconds:
            break
        if now < begin:
            first = counted
        counted += 1
        node.network.start(tensor, lambda _: None)  # waits for a free request
    fps = (counted - first) / (now - begin)
    node.network.drain()
    return Score(round(fps, 2), [round(fps, 2)], 0.0, 0.0, round(pss_mib(os.getpid()), 1))


if __name__ == "__main__":
    if "--queue" in sys.argv:
        queue(Case.load(sys.argv[1])).print()
        raise SystemExit
    run(Case.load(sys.argv[1]), steps="--steps" in sys.argv).print()
