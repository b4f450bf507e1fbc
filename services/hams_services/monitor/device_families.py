"""Metric families of devices, their hosts, and the nodes that they serve."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from hams_services.monitor.core import SystemSnapshot
from hams_shared.wire.messages.scheduler import DeviceView

DEVICE = ["device", "emulated"]
"""An emulated device is called emulated wherever it is shown."""


def device_families(devices: tuple[DeviceView, ...]) -> Iterator[Metric]:
    """Yield what devices are, how they are, and what they have cost."""
    yield _info(devices)
    yield from _states(devices)
    yield from _costs(devices)
    yield _host_cores(devices)


def _emulated(view: DeviceView) -> str:
    return str(view.record.emulated).lower()


def _names(view: DeviceView) -> list[str]:
    return [view.record.device, _emulated(view)]


def _info(devices: tuple[DeviceView, ...]) -> Metric:
    info = InfoMetricFamily("hams_device", "What the device is", labels=["device"])
    for view in devices:
        one = view.record
        about = {"host": one.host, "backend": one.backend, "kind": one.kind, "name": one.name, "runtime": one.runtime}
        info.add_metric([one.device], {**about, "version": one.version, "emulated": _emulated(view)})
    return info


def _states(devices: tuple[DeviceView, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily("hams_device_up", "1 while the device may serve: alive, and not quarantined", labels=DEVICE)
    held = GaugeMetricFamily(
        "hams_device_quarantined", "1 while it gets no work because it hung or failed", labels=DEVICE
    )
    hangs = GaugeMetricFamily("hams_device_recent_hangs", "Hangs that still count for quarantine", labels=DEVICE)
    failures = GaugeMetricFamily(
        "hams_device_recent_failures", "Failures that still count for quarantine", labels=DEVICE
    )
    gone = GaugeMetricFamily("hams_device_gone", "1 while the device is not there: its file disappeared", labels=DEVICE)
    out = GaugeMetricFamily("hams_device_networks_out", "Networks that it does not run since they fail", labels=DEVICE)
    silent = GaugeMetricFamily("hams_device_silent_seconds", "Since the last heartbeat", labels=DEVICE)
    start = GaugeMetricFamily("hams_device_start_time_seconds", "Start of its agent, Unix time", labels=DEVICE)
    for view in devices:
        names = _names(view)
        up.add_metric(names, float(view.state == "alive"))
        held.add_metric(names, float(view.state == "quarantined"))
        hangs.add_metric(names, len(view.health.hangs) if view.health else 0)
        failures.add_metric(names, len(view.health.failures) if view.health else 0)
        gone.add_metric(names, float(view.state == "gone"))
        out.add_metric(names, len(view.health.faulty) if view.health else 0)
        start.add_metric(names, view.record.started_at)
        if view.heartbeat is not None:
            silent.add_metric(names, view.silent_s)
    yield from (up, held, hangs, failures, gone, out, silent, start)


def _costs(devices: tuple[DeviceView, ...]) -> Iterator[Metric]:
    busy = CounterMetricFamily("hams_device_busy_seconds", "Time spent computing", labels=DEVICE)
    queue = GaugeMetricFamily("hams_device_queue", "Work items that wait", labels=DEVICE)
    cpu = CounterMetricFamily("hams_device_cpu_seconds", "CPU time of the agent's process", labels=DEVICE)
    memory = GaugeMetricFamily("hams_device_memory_bytes", "Resident memory of the agent", labels=DEVICE)
    for view in devices:
        if view.heartbeat is not None:
            names = _names(view)
            busy.add_metric(names, view.heartbeat.busy_s)
            cpu.add_metric(names, view.heartbeat.cpu_s)
            queue.add_metric(names, view.heartbeat.queue)
            memory.add_metric(names, view.heartbeat.memory_mib * 2**20)
    yield from (busy, cpu, queue, memory)


def _host_cores(devices: tuple[DeviceView, ...]) -> Metric:
    cores = GaugeMetricFamily("hams_host_cores", "CPU cores of the host that HAMS may use", labels=["host"])
    found: dict[str, float] = {}
    for view in devices:
        found[view.record.host] = max(found.get(view.record.host, 0.0), view.record.host_cores)
    for host, count in found.items():
        if count > 0:
            cores.add_metric([host], count)
    return cores


def node_families(snapshot: SystemSnapshot) -> Iterator[Metric]:
    """Yield where nodes are placed, and what they have cost."""
    labels = ["group", "node", "device"]
    share = GaugeMetricFamily(
        "hams_node_planned_share", "Part of the node's frames that the plan gives the device", labels=labels
    )
    for plan in snapshot.plans:
        for node, places in plan.shares.items():
            for device in places:
                share.add_metric([plan.group.spec.name, node, device], plan.share(node, device))
    frames = CounterMetricFamily("hams_node_frames", "Frames a node worked on", labels=labels)
    inferences = CounterMetricFamily("hams_node_inferences", "Images a node ran its network on", labels=labels)
    busy = CounterMetricFamily("hams_node_busy_seconds", "Time its device computed for a node", labels=labels)
    wrong = CounterMetricFamily(
        "hams_node_not_finite", "Frames for which a node's network gave NaN or infinity", labels=labels
    )
    failed = CounterMetricFamily(
        "hams_node_failed", "Frames for which the inference of a node's network failed", labels=labels
    )
    cpu = CounterMetricFamily("hams_node_cpu_seconds", "CPU time of a node's steps", labels=[*labels, "step"])
    for view in snapshot.devices:
        for load in view.heartbeat.nodes if view.heartbeat else ():
            names = [load.group, load.node, view.record.device]
            frames.add_metric(names, load.frames)
            inferences.add_metric(names, load.inferences)
            busy.add_metric(names, load.busy_s)
            wrong.add_metric(names, load.not_finite)
            failed.add_metric(names, load.failed)
            for step, seconds in load.cpu_s.items():
                cpu.add_metric([*names, step], seconds)
    yield from (share, frames, inferences, busy, wrong, failed, cpu)
