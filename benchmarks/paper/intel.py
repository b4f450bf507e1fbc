"""A box that others measured: can its rows be predicted from times per network and device? Pure, without hardware.

Intel's inference tutorials give frames/s of the whole loop for 26 placements of two services on a CPU, its GPU and a
Movidius stick (`intel.json`). The loop takes one frame at a time and waits for each network: the detector, then the
others. (In the face tutorial age-gender and head pose are submitted together and then waited for; both are short
beside the detector.) Four forms of the time of a frame are fitted (ms), with t[n, d] the time of network n on device
d, L of the loop itself and k the networks on the CPU:

- ``sequential``: L + Σ t
- ``overlapped``: L + the longest sum of t of a device, as if frames were pipelined
- each of them ``with interference``: every further network on the CPU costs P, for each frame

P is what the rows show, not an assumption of ours: each further network on the CPU costs 21 ms in both services,
whichever it is. (Each network has its own team of OpenMP threads, which wait busily for 200 ms by default.)

There are no parameters of rows. t is size[n] × speed[d] × a deviation near 1, so that a pair that few rows have is
held by the others. The errors are relative, and large ones count linearly (`soft_l1`).
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from hams_scheduler import offline
from hams_scheduler.solver import instance_json, objective
from hams_scheduler.solver.instance import Problem

Floats = npt.NDArray[np.float64]

DATA = Path(__file__).parent / "intel.json"
DEVICES = ("CPU", "GPU", "MYR")
STRATEGIES = ("mfs", "hfs", "optimal")
"""Without `replicated`: the program that was measured has no network on two devices."""
RIDGE = 0.1
"""Weight of a deviation of 1 in ln t, beside relative errors of frames."""
SCALE = 0.05
"""Relative error from which on it counts linearly."""
BAR_RANK, BAR_ERROR, BAR_BEST = 0.95, 0.10, 0.01


@dataclass(frozen=True)
class Row:
    """One measured placement."""

    service: str
    places: tuple[str, ...]
    """The device of each network, in the order of the service."""
    fps: float

    @property
    def ms(self) -> float:
        """Time of a frame."""
        return 1e3 / self.fps


@dataclass(frozen=True)
class Box:
    """Fitted times, ms."""

    times: Mapping[tuple[str, str], float]
    """By network and device."""
    loop: float
    further: float
    """P: each further network on the CPU, per frame."""


@cache
def services() -> dict[str, tuple[str, ...]]:
    """Return the networks of each service."""
    return {name: tuple(one["networks"]) for name, one in json.loads(DATA.read_text())["services"].items()}


def rows() -> list[Row]:
    """Return all rows."""
    data = json.loads(DATA.read_text())["services"]
    return [Row(s, tuple(key.split("/")), fps) for s, one in data.items() for key, fps in one["rows"].items()]


@dataclass(frozen=True)
class Table:
    """Placements as arrays: R rows, N networks, D devices."""

    used: Floats
    """R×N×D, 1 where the row runs the network on the device."""
    further: Floats
    """R: networks on the CPU beyond the first."""

    @staticmethod
    def of(placed: Sequence[tuple[str, tuple[str, ...]]]) -> Table:
        """Arrange (service, places)."""
        networks = [network for names in services().values() for network in names]
        used = np.zeros((len(placed), len(networks), len(DEVICES)))
        for index, (service, places) in enumerate(placed):
            for network, device in zip(services()[service], places, strict=True):
                used[index, networks.index(network), DEVICES.index(device)] = 1.0
        return Table(used, np.maximum(used[:, :, 0].sum(axis=1) - 1.0, 0.0))


Form = Callable[[Table, Floats, float, float], Floats]
"""From placements, N×D times, L and P to R ms."""


def sequential(table: Table, times: Floats, loop: float, further: float) -> Floats:
    """One network after another."""
    return np.asarray(loop + (table.used * times).sum(axis=(1, 2)) + further * table.further)


def overlapped(table: Table, times: Floats, loop: float, further: float) -> Floats:
    """Devices work at the same time, on different frames."""
    by_device = (table.used * times).sum(axis=1)
    by_device[:, 0] += further * table.further
    return np.asarray(loop + by_device.max(axis=1))


FORMS: dict[str, tuple[Form, bool]] = {
    "sequential": (sequential, False),
    "overlapped": (overlapped, False),
    "sequential, with interference": (sequential, True),
    "overlapped, with interference": (overlapped, True),
}
"""By name: the form, and whether P is fitted (else it is 0)."""
BEST = "sequential, with interference"


def fit(known: Sequence[Row], name: str = BEST) -> Box:
    """Return the times that explain `known` best; always the same for the same rows."""
    return _fit(tuple(known), name)


@cache
def _fit(known: tuple[Row, ...], name: str) -> Box:
    form, interferes = FORMS[name]
    table = Table.of([(row.service, row.places) for row in known])
    measured = np.log([row.ms for row in known])
    networks = table.used.shape[1]
    start = np.concatenate([np.full(networks, np.log(8.0)), [0.2, 1.5], np.zeros(networks * 3), np.log([5.0, 20.0])])
    sizes = networks + len(DEVICES) - 1

    def residuals(found: Floats) -> Floats:
        times, loop, further = _unpack(found, networks)
        error = np.log(form(table, times, loop, further if interferes else 0.0)) - measured
        held = 1e-2 * (found - start)
        return np.concatenate([error, RIDGE * found[sizes:-2], held[:sizes], held[-2:]])

    solved = least_squares(residuals, start, loss="soft_l1", f_scale=SCALE, max_nfev=100).x
    times, loop, further = _unpack(np.asarray(solved), networks)
    names = [network for one in services().values() for network in one]
    by_pair = {(n, d): float(times[i, j]) for i, n in enumerate(names) for j, d in enumerate(DEVICES)}
    return Box(by_pair, loop, further if interferes else 0.0)


def _unpack(found: Floats, networks: int) -> tuple[Floats, float, float]:
    """Return N×D times, L and P of logarithms: sizes, speeds beside the CPU, deviations, L, P."""
    speed = np.concatenate([[0.0], found[networks : networks + 2]])
    deviation = found[networks + 2 : -2].reshape(networks, len(DEVICES))
    return np.exp(found[:networks, None] + speed + deviation), float(np.exp(found[-2])), float(np.exp(found[-1]))


def predicted_ms(box: Box, service: str, places: tuple[str, ...], name: str = BEST) -> float:
    """Return the time of a frame by one of `FORMS`."""
    times = np.array([[box.times[n, d] for d in DEVICES] for one in services().values() for n in one])
    return float(FORMS[name][0](Table.of([(service, places)]), times, box.loop, box.further)[0])


def instance(box: Box, service: str) -> dict[str, Any]:
    """Return the question of where to place the service's networks, for ``hams-ctl plan --instance``.

    The loop is a host with one core, which is busy while it waits: L for a frame and t for each network. Interference
    can slow a device, not a host: the CPU with k networks, the detector among them, takes the loop's whole time. What
    is lost is the wait for another device beside that, and P where the CPU has several networks, but not the detector.
    """
    names = services()[service]
    times = [[box.times[n, device] for device in DEVICES] for n in names]
    child = statistics.fmean(row[0] for row in times[1:])
    together = [box.loop + times[0][0] + more * child for more in range(len(names))]
    slower = [1.0 + more * box.further / together[more] for more in range(len(names))]
    own = [[ms + (box.loop if row is times[0] else 0.0) for ms in row] for row in times]
    return {
        "name": f"{service} on Intel's box, fitted",
        "models": list(names),
        "devices": list(DEVICES),
        "fps": [[_shown(1e3 / ms) for ms in row] for row in own],
        "kappa": [[_shown(factor) for factor in slower], *[[1.0] * len(names)] * 2],
        "hosts": dict.fromkeys(DEVICES, "loop"),
        "cores": {"loop": 1},
        "usable": 1.0,
        "cpu_ms": [[_shown(ms) for ms in row] for row in times],
        "frame_cpu_ms": {"default": {"loop": _shown(box.loop)}},
    }


def _shown(value: float) -> float:
    """Five digits: further ones differ from processor to processor."""
    return float(f"{value:.5g}")


def instance_ms(box: Box, service: str, places: tuple[str, ...]) -> float:
    """Return the time of a frame by the objective of our own solver."""
    problem = Problem.of(instance_json.read(instance(box, service)))
    return 1e3 * objective.cycle(problem, np.array([DEVICES.index(device) for device in places]))


Guess = Callable[[Box, str, tuple[str, ...]], float]


def held_out(known: Sequence[Row], name: str, guess: Guess | None = None) -> list[tuple[Row, float]]:
    """Return each row with the ms that all other rows predict; only rows whose pairs all occur in another row."""
    said: Guess = guess or partial(predicted_ms, name=name)
    found = []
    for row in known:
        rest = [other for other in known if other != row]
        pairs = {(other.service, index, device) for other in rest for index, device in enumerate(other.places)}
        if all((row.service, index, device) in pairs for index, device in enumerate(row.places)):
            found.append((row, said(fit(rest, name), row.service, row.places)))
    return found


@dataclass(frozen=True)
class Score:
    """How good predictions of rows are."""

    rows: int
    rank: float
    """Spearman's correlation of predicted and measured FPS."""
    median: float
    worst: float
    """Errors: |predicted ÷ measured FPS - 1|."""

    @staticmethod
    def of(found: Sequence[tuple[Row, float]]) -> Score:
        """Compare."""
        wrong = [abs(row.ms / ms - 1.0) for row, ms in found]
        rank = spearmanr([row.fps for row, _ in found], [-ms for _, ms in found]).statistic
        return Score(len(found), float(rank), statistics.median(wrong), max(wrong))


def chosen(box: Box, service: str) -> dict[str, tuple[str, ...]]:
    """Return the placement that each strategy of our solver chooses on :func:`instance`."""
    answers = offline.answers(instance(box, service), STRATEGIES, 1.0)
    return {one["strategy"]: tuple(one["assignment"][network] for network in services()[service]) for one in answers}


def loss(known: Sequence[Row], service: str, places: tuple[str, ...]) -> float | None:
    """Return by which part a placement's measured FPS is below the best row's; None: nobody measured it."""
    fps = {row.places: row.fps for row in known if row.service == service}
    return 1.0 - fps[places] / max(fps.values()) if places in fps else None


def fastest(box: Box, service: str, name: str) -> tuple[str, ...]:
    """Return the placement of whole networks that is predicted to be the fastest."""
    every = itertools.product(DEVICES, repeat=len(services()[service]))
    return min(every, key=lambda places: predicted_ms(box, service, places, name))
