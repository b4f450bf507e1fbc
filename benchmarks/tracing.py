"""What traces cost: CPU time per frame of all processes, with traces off and on in turns, in one run.

    python -m benchmarks.tracing [--ratio 0.01] [--pairs 150] [--seconds 1] [--case light]

Broker, scheduler, two agents and a pipeline serve a group without a pause. The pipeline is HAMS's own, but for one
thing: it is told by its standard input whether to trace, so that both sides of a pair follow each other within two
seconds, in the same processes. Spans go to a receiver that reads and forgets them; its own CPU time is not counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import mean, median, stdev
from typing import IO, Annotated

import typer

from benchmarks.check.__main__ import ELSEWHERE, FIRST, cases
from benchmarks.check.trees import ROOT
from benchmarks.check.turn import ctl, endless
from benchmarks.serving.cases import devices
from hams_shared.wire.trace_context import Sampling

sys.path.append(str(ROOT / "tests"))
from support.ports import free_port  # the tests' own

WARM_S = 5.0
LEAST = 10
"""Frames of a side; with fewer the pair is left out."""


# ── the pipeline, which is told when to trace ─────────────────────────────────────────────────────────────────────────


def pipeline() -> None:
    """Run HAMS's pipeline; a ratio on each line of the standard input; answer with how many frames are delivered."""
    from hams_services.pipeline.service import PipelineService
    from hams_services.pipeline.tracing import tracing_of
    from hams_shared.bus.nats.client import NatsBus
    from hams_shared.runtime.lifecycle import run, setup_logging
    from hams_shared.runtime.process import cache_folder

    setup_logging("pipeline")

    async def serve(stop: asyncio.Event) -> None:
        async with NatsBus(os.environ["HAMS_NATS_URL"], name="hams-pipeline") as bus:
            service = PipelineService(bus, cache_folder(), tracing=tracing)
            loop = asyncio.get_running_loop()

            def told() -> None:
                line = sys.stdin.readline()
                if not line:
                    stop.set()
                    loop.remove_reader(sys.stdin)
                    return
                tracing.sampling = Sampling(float(line), follows=False)
                print(sum(group.results for group in service._groups.values()), flush=True)

            loop.add_reader(sys.stdin, told)
            await service.run(stop)

    with tracing_of(os.environ) as tracing:
        assert tracing is not None
        raise SystemExit(run(serve))


# ── the processes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_s(pid: int) -> float:
    """CPU time of a process with all its threads, s; by its CPU clock, in ns (clock_getcpuclockid(3))."""
    return time.clock_gettime(((~pid) << 3) | 2)


class Receiver:
    """Takes spans, counts the bytes, forgets them."""

    def __init__(self) -> None:
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.bytes += len(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.bytes = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


@contextmanager
def parts(folder: Path, otlp: str) -> Iterator[tuple[dict[str, subprocess.Popen[str]], list[str]]]:
    """Run a system; yield its processes by part, and the ids of its devices."""
    port, known = free_port(), devices(FIRST)
    os.environ |= {"HAMS_NATS_URL": f"nats://127.0.0.1:{port}", "HAMS_HOST": "box", "HAMS_HOME": str(folder)}
    os.environ |= {"HAMS_TRACE": "0.01", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp}
    python = [sys.executable, "-m"]
    commands = {
        "broker": ["nats-server", "-js", "-sd", str(folder / "store"), "-a", "127.0.0.1", "-p", str(port)],
        "scheduler": [*python, "hams_scheduler"],
        "pipeline": [*python, "benchmarks.tracing", "pipeline"],
        **{f"agent {name}": [*python, "hams_agents", "--device", option] for name, option in known.items()},
    }
    commands["broker"][0] = str(Path(sys.executable).with_name("nats-server"))
    with ExitStack() as stack:
        running: dict[str, subprocess.Popen[str]] = {}
        for name, argv in commands.items():
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            running[name] = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if name == "pipeline" else log,
                stderr=log,
                text=True,
            )
            stack.callback(_end, running[name])
            if name == "broker":
                time.sleep(1.0)
        yield running, list(known)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────────


Side = tuple[float, float]
"""CPU ms per frame of all parts, and of the pipeline alone."""


class StalledError(Exception):
    """Too few frames to tell: the machine had other things to do."""


class Meter:
    """CPU time of all parts, and frames."""

    def __init__(self, running: dict[str, subprocess.Popen[str]]) -> None:
        self._pids = {name: one.pid for name, one in running.items()}
        self._pipeline = running["pipeline"]

    def tell(self, ratio: float) -> int:
        """Set the ratio from now on; return the frames that are delivered so far."""
        into: IO[str] = self._pipeline.stdin  # type: ignore[assignment]
        out: IO[str] = self._pipeline.stdout  # type: ignore[assignment]
        into.write(f"{ratio}\n")
        into.flush()
        return int(out.readline())

    def spent(self) -> dict[str, float]:
        return {name: cpu_s(pid) for name, pid in self._pids.items()}

    def side(self, ratio: float, seconds: float) -> Side:
        """CPU ms per frame with this ratio."""
        frames, before = self.tell(ratio), self.spent()
        time.sleep(seconds)
        after, done = self.spent(), self.tell(ratio)
        if done - frames < LEAST:
            raise StalledError
        ms = {name: (after[name] - before[name]) / (done - frames) * 1e3 for name in after}
        return sum(ms.values()), ms["pipeline"]


def interval(values: list[float], rounds: int = 4000) -> tuple[float, float]:
    """95 % interval of the median, by the bootstrap."""
    draw = random.Random(1)
    found = sorted(median(draw.choices(values, k=len(values))) for _ in range(rounds))
    return found[int(0.025 * rounds)], found[int(0.975 * rounds)]


def main(
    ratio: Annotated[float, typer.Option(help="Of the frames, while traces are on.")] = 0.01,
    pairs: Annotated[int, typer.Option(min=3)] = 150,
    seconds: Annotated[float, typer.Option(help="Of each side of a pair.")] = 1.0,
    case: Annotated[str, typer.Option(help="light, face")] = "light",
    out: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure."""
    receiver = Receiver()
    with tempfile.TemporaryDirectory() as name, parts(Path(name), receiver.url) as (running, ids):
        folder = Path(name)
        assert set(ELSEWHERE) >= {case}
        [source] = cases([case], ROOT, folder / "groups", ids)
        for _ in range(60):
            try:
                found = subprocess.run(
                    [sys.executable, "-m", "hams_services.ctl", "devices", "--json"], capture_output=True, text=True
                )
                if found.returncode == 0 and len(json.loads(found.stdout)) == len(ids):
                    break
            except ValueError:
                pass
            time.sleep(1.0)
        ctl(ROOT, "deploy", str(endless(source, folder)[1]))
        meter = Meter(running)
        time.sleep(WARM_S)
        rows: list[tuple[Side, Side]] = []
        for number in range(pairs):
            try:
                if number % 2:
                    on, off = meter.side(ratio, seconds), meter.side(0.0, seconds)
                else:
                    off, on = meter.side(0.0, seconds), meter.side(ratio, seconds)
            except StalledError:
                continue
            rows.append((off, on))
        if len(rows) < pairs / 2:
            raise SystemExit("the group does not serve: see the logs")
        frames = meter.tell(0.0)
    print(f"{case}, {ratio:g} of the frames traced, {len(rows)} pairs of {seconds:g} s, {frames} frames", end="")
    print(f", load {os.getloadavg()[0]:.1f}, {receiver.bytes} bytes of spans")
    whole = median(off[0] for off, _ in rows)
    for which, what in enumerate(("all parts", "pipeline")):
        more = [(on[which] - off[which]) / whole * 100 for off, on in rows]
        low, high = interval(more)
        off_ms, on_ms = (median(side[which] for side in sides) for sides in zip(*rows, strict=True))
        print(f"{what}: off {off_ms:.3f} ms, on {on_ms:.3f} ms of CPU per frame; more, in % of all parts:")
        print(f"  median {median(more):+.2f}, 95 % interval {low:+.2f} to {high:+.2f}, mean {mean(more):+.2f}", end="")
        print(f", standard deviation of single pairs {stdev(more):.1f}")
    if out is not None:
        out.write_text(json.dumps({"case": case, "ratio": ratio, "seconds": seconds, "rows": rows}) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["pipeline"]:
        pipeline()
    else:
        typer.run(main)
