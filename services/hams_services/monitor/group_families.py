"""Metric families of groups and their plans, of the scheduler, and of events on their way to the broker."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from hams_services.monitor.core import SystemSnapshot
from hams_shared.wire.messages.pipeline import PipelineView
from hams_shared.wire.messages.scheduler import GroupView, SchedulerView

GROUP = ["group"]
STATES = ("profiling", "planning", "loading", "serving", "waiting", "failed")


def group_families(snapshot: SystemSnapshot) -> Iterator[Metric]:
    """Yield what each group should do, could do and does, and its plan."""
    groups = snapshot.scheduler.groups if snapshot.scheduler is not None else ()
    state = GaugeMetricFamily("hams_group_state", "1 for the state the group is in", labels=["group", "state"])
    limit = GaugeMetricFamily(
        "hams_group_bottleneck", "1 for the device, or host's cores, that limits the group", labels=["group", "limit"]
    )
    for one in groups:
        for name in STATES:
            state.add_metric([one.name, name], float(one.state == name))
        if one.bottleneck:
            limit.add_metric([one.name, one.bottleneck], 1.0)
    yield from (state, limit)
    yield from _rates(groups)
    yield from _plans(groups)


def _rates(groups: tuple[GroupView, ...]) -> Iterator[Metric]:
    """Yield the frames/s of groups; one that is not known is left out."""
    target = GaugeMetricFamily("hams_group_target_fps", "Frames per second that the group should reach", labels=GROUP)
    measured = GaugeMetricFamily(
        "hams_group_measured_fps", "Frames per second now; sources may bring fewer than could be done", labels=GROUP
    )
    predicted = GaugeMetricFamily(
        "hams_group_predicted_fps", "Frames per second of all groups' plans together, as predicted", labels=GROUP
    )
    expected = GaugeMetricFamily(
        "hams_group_expected_fps", "Frames per second that it can reach under the present load", labels=GROUP
    )
    bound = GaugeMetricFamily(
        "hams_group_bound_fps", "Proven upper bound of the frames per second of the group by itself", labels=GROUP
    )
    ratio = GaugeMetricFamily("hams_group_target_ratio", "Measured frames per second over the target", labels=GROUP)
    for one in groups:
        measured.add_metric([one.name], one.measured_fps)
        if one.target_fps:
            target.add_metric([one.name], one.target_fps)
            ratio.add_metric([one.name], one.measured_fps / one.target_fps)
        if one.predicted_fps > 0:
            predicted.add_metric([one.name], one.predicted_fps)
        if one.expected_fps > 0:
            expected.add_metric([one.name], one.expected_fps)
        if one.active is not None and one.active.bound_fps > 0:
            bound.add_metric([one.name], one.active.bound_fps)
    yield from (target, measured, predicted, expected, bound, ratio)


def _plans(groups: tuple[GroupView, ...]) -> Iterator[Metric]:
    epoch = GaugeMetricFamily("hams_group_plan_epoch", "Epoch of the active plan: it grows with each", labels=GROUP)
    made = GaugeMetricFamily(
        "hams_group_plan_timestamp_seconds", "When the active plan was made, Unix time", labels=GROUP
    )
    loading = GaugeMetricFamily("hams_group_plan_loading", "1 while agents load the next plan", labels=GROUP)
    unmet = GaugeMetricFamily("hams_group_target_unmet", "1 when no plan can reach the target", labels=GROUP)
    for one in groups:
        loading.add_metric([one.name], float(one.next is not None))
        if one.active is not None:
            epoch.add_metric([one.name], one.active.epoch)
            made.add_metric([one.name], one.active.made_at)
            unmet.add_metric([one.name], float(one.active.unmet))
    yield from (epoch, made, loading, unmet)


def scheduler_families(view: SchedulerView | None) -> Iterator[Metric]:
    """Yield who leads, and what the scheduler has to do."""
    leader = InfoMetricFamily("hams_scheduler_leader", "The scheduler that leads", labels=())
    term = GaugeMetricFamily("hams_scheduler_term", "Grows with every change of the leader", labels=())
    led = GaugeMetricFamily("hams_scheduler_lead_seconds", "For how long it has led", labels=())
    plans = CounterMetricFamily("hams_scheduler_plans", "Plans made: the highest epoch of the site", labels=())
    waiting = GaugeMetricFamily("hams_scheduler_profiles_waiting", "Measurements that wait", labels=())
    losses = GaugeMetricFamily("hams_scheduler_losses", "Devices for whose loss plans are to be ready", labels=())
    ready = GaugeMetricFamily("hams_scheduler_losses_ready", "Those for which they are", labels=())
    if view is not None:
        if view.leader is not None:
            leader.add_metric((), {"holder": view.leader.holder, "host": view.leader.host})
            term.add_metric((), view.leader.term)
            led.add_metric((), view.led_s)
        plans.add_metric((), view.epoch)
        waiting.add_metric((), view.waiting_profiles)
        losses.add_metric((), view.losses)
        ready.add_metric((), view.losses_ready)
    yield from (leader, term, led, plans, waiting, losses, ready)


def event_families(view: PipelineView | None) -> Iterator[Metric]:
    """Yield the way of events to the broker, and the pipeline's own cost."""
    cpu = CounterMetricFamily("hams_pipeline_cpu_seconds", "CPU time of the pipeline's process", labels=["host"])
    waiting = GaugeMetricFamily("hams_events_pending", "Events that the broker has not stored yet", labels=GROUP)
    published = CounterMetricFamily("hams_events_published", "Events that the broker has stored", labels=GROUP)
    lost = CounterMetricFamily("hams_events_lost", "Events that are lost, by reason", labels=["group", "reason"])
    if view is not None:
        if view.host:
            cpu.add_metric([view.host], view.cpu_s)
        for one in view.events:
            waiting.add_metric([one.group], one.waiting)
            published.add_metric([one.group], one.published)
            lost.add_metric([one.group, "overflow"], one.overflowed)
            lost.add_metric([one.group, "refused"], one.refused)
    yield from (cpu, waiting, published, lost)
