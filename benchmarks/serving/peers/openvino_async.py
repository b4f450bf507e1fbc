"""OpenVINO alone: one process, its asynchronous requests, every network on all cores as it suits throughput best."""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.serving.case import Case, Crops, Node, Pixels, Score, cores, whole
from benchmarks.serving.peers.common import Answer, Done, Feed, join, main
from hams_agents.backends.base import ModelFile
from hams_shared.group.spec import GroupSpec


class AsyncNetwork:
    """A network whose requests are under way several at a time, one image each."""

    def __init__(self, core: ov.Core, model: ModelFile, streams: int, requests: int) -> None:
        graph = core.read_model(model.path)
        graph.reshape({graph.inputs[0]: list(model.input_shape)})
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(graph, "CPU", config)
        self._names = [min(port.get_names(), default=f"{i}") for i, port in enumerate(graph.outputs)]
        self._element = graph.inputs[0].get_element_type().to_dtype()
        self._queue = ov.AsyncInferQueue(compiled, requests)
        self._queue.set_callback(self._done)
        self._lock = threading.Lock()  # two threads that start a request at once may get the same one
        self.metadata: dict[str, str] = {}

    def start(self, images: Any, then: Any) -> None:
        """Run every image; call `then` with the outputs when the last is done."""
        outputs: list[Any] = [None] * len(images)
        counter = itertools.count(1)
        images = np.ascontiguousarray(images, self._element)
        for index in range(len(images)):
            one = images[index : index + 1]  # not copied: it has to live until it is done
            with self._lock:
                self._queue.start_async({0: one}, (one, outputs, counter, index, then), share_inputs=True)

    def drain(self) -> None:
        """Wait until no request is under way."""
        self._queue.wait_all()

    def _done(self, request: Any, context: Any) -> None:
        _, outputs, counter, index, then = context
        outputs[index] = [np.array(tensor.data) for tensor in request.output_tensors]
        if next(counter) == len(outputs):
            then({name: np.concatenate([one[i] for one in outputs]) for i, name in enumerate(self._names)})


class AsyncBackend:
    """Loads networks for :class:`Node`."""

    def __init__(self, streams: int, requests: int) -> None:
        self._core = ov.Core()
        self._streams = streams
        self._requests = requests

    def load(self, model: ModelFile) -> AsyncNetwork:
        """Read and compile."""
        return AsyncNetwork(self._core, model, self._streams, self._requests)


class Flight:
    """One frame: counts the nodes that are not done."""

    def __init__(self, frame: Pixels, done: Done) -> None:
        self.frame = frame
        self.answers: dict[str, Answer] = {}
        self._done = done
        self._left = 1
        self._lock = threading.Lock()

    def more(self, count: int) -> None:
        """`count` more nodes have to be done."""
        with self._lock:
            self._left += count

    def less(self, spec: GroupSpec) -> None:
        """A node is done."""
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._done(len(join(spec, self.answers)))


def run(case: Case) -> Score:
    """Measure it."""
    mine = cores(case)
    os.sched_setaffinity(0, mine)
    backend: Any = AsyncBackend(len(mine), max(2 * len(mine), min(16, case.window * case.streams)))
    spec = case.spec()
    nodes = {name: Node(case, name, backend) for name in spec.nodes}
    pool = ThreadPoolExecutor(len(mine))

    def check(future: Future[None]) -> None:
        error = future.exception()
        if error is not None:
            feed.fail(error)

    def start(name: str, crops: Crops, flight: Flight) -> None:
        node: Any = nodes[name]
        if not len(crops.images):
            finish(name, None, [], crops, flight)
            return
        tensor, to_frame = node.prepare(crops)

        def then(outputs: Any) -> None:
            pool.submit(finish, name, outputs, to_frame, crops, flight).add_done_callback(check)

        node.network.start(tensor, then)

    def finish(name: str, outputs: Any, to_frame: Any, crops: Crops, flight: Flight) -> None:
        node = nodes[name]
        items, cuts = node.run(crops) if outputs is None else node.finish(outputs, to_frame, crops, flight.frame)
        flight.answers[name] = items, crops.sources
        flight.more(len(cuts))
        for child, one in cuts.items():
            start(child, one, flight)
        flight.less(spec)

    def submit(stream: int, place: int, frame: Pixels, done: Done) -> None:
        pool.submit(start, spec.root, whole(frame), Flight(frame, done)).add_done_callback(check)

    feed = Feed(case, submit)
    return feed.run().score(threads=len(mine))


if __name__ == "__main__":
    main(run)
