"""Every subject of HAMS, concretely, and which role may publish on which. Pure."""

from __future__ import annotations

from hams_services.security.roles import KEPT, NAMED, Role, roles
from hams_shared.bus.memory.store import matches
from hams_shared.wire import subjects

DEVICE = "box.stub.sim"
FAR = "box2.stub.sim"
GROUP, STREAM, NODE = "grey", "s0", "light"
SPARE = "s1"
"""A stream that the fuzzer may push to; the other one's results are checked."""
BOXES = ("box", "box2")
KEYS = {
    "groups": GROUP, "devices": DEVICE, "profiles": "x.y", "plans": GROUP, "variants": "x", "health": DEVICE,
    "leader": "scheduler", "jobs": "x",
}  # fmt: skip
STREAMS = (
    *(subjects.EVENTS, subjects.HISTORY, subjects.RESULTS, subjects.AUDIT, f"OBJ_{subjects.MODEL_STORE}"),
    *(f"KV_hams-{name}" for name in ("plans", "groups", "galleries", "versions", "positions")),
)


def all_roles() -> list[Role]:
    """Every role, an agent of each of two boxes and a named application among them."""
    return roles(BOXES, named=[f"{prefix}one" for prefix in NAMED])


def live() -> list[str]:
    """Subjects that parts subscribe, in process too."""
    found = [
        *(subjects.heartbeat(one) for one in (DEVICE, FAR)), *(subjects.work(one) for one in (DEVICE, FAR)),
        *(subjects.profile(one) for one in (DEVICE, FAR)), subjects.plan_request(), subjects.measure_request(),
        subjects.scheduler_view(), subjects.pipeline_status(), subjects.pipeline_groups(), subjects.read_cost(),
        subjects.still(), subjects.pipeline_load(), subjects.gallery(GROUP), subjects.history("scheduler"),
        subjects.history("optimizer"), subjects.history_after(), subjects.answer(GROUP, STREAM),
        subjects.outputs_wanted(GROUP), subjects.output(GROUP, STREAM, NODE), subjects.traces_wanted(GROUP),
        subjects.trace(GROUP, STREAM), subjects.infer(GROUP), subjects.infer("none"), subjects.push(GROUP, SPARE),
        subjects.push(GROUP, "none"), subjects.pictures_wanted(GROUP), subjects.preview_wanted(GROUP),
        subjects.picture(GROUP, STREAM), subjects.preview(GROUP, STREAM), subjects.result(GROUP, STREAM),
        subjects.event(GROUP, STREAM), subjects.events_after(GROUP), subjects.events_after("none"),
        subjects.kept(GROUP, STREAM), subjects.results_after(GROUP), subjects.results_after("none"),
        *(subjects.audit(what, "admin") for what in ("deploy", "credentials")),
    ]  # fmt: skip
    keys = [f"$KV.{subjects.bucket(name)}.{key}" for name, key in KEYS.items()]
    own = [*(f"$KV.{name}.{key}" for name, key in own_keys().items()), f"$O.{subjects.MODEL_STORE}.C.x"]
    return [*found, *keys, *(f"$KV.{subjects.bucket(name)}.other" for name in KEYS), *own]


def own_keys() -> dict[str, str]:
    """Keys of the buckets that not all parts may read, by bucket."""
    uploads, versions = (subjects.bucket(name) for name in (subjects.UPLOADS, subjects.VERSIONS))
    return {
        subjects.bucket(subjects.GALLERIES): f"{GROUP}.{STREAM}",
        uploads: f"{GROUP}.{STREAM}",
        subjects.TRACKS: f"{GROUP}.{STREAM}",
        subjects.POSITIONS: f"{GROUP}.stream.{STREAM}",
        versions: f"{GROUP}.1",
    }


def of_broker() -> list[str]:
    """Subjects that only a real broker serves: JetStream, its own system, services' identities and inboxes."""
    verbs = ("CREATE", "INFO", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE")
    inboxes = [f"_INBOX_{role.user}.x" for role in all_roles()]
    return [
        "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.FC.x", "$JS.ACK.x", "_INBOX.x",
        *(f"$JS.API.STREAM.{verb}.{name}" for name in STREAMS for verb in verbs),
        *(f"$JS.API.CONSUMER.{verb}.{name}" for name in STREAMS for verb in ("CREATE", "INFO.x", "DELETE.x", "NAMES")),
        *(f"$JS.API.DIRECT.GET.{name}.x" for name in STREAMS), "$SRV.PING", "$SRV.INFO", "$SRV.STATS.hams-agent",
        "$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.ACCOUNT.PING", "hams.v1.unknown", "hams.v2.work.x", "other", *inboxes,
    ]  # fmt: skip


def may(role: Role, subject: str) -> bool:
    """Whether `role` may publish on `subject`."""
    allowed = (*role.publish, f"_INBOX_{role.user}.>")
    return subject not in KEPT and any(matches(pattern, subject) for pattern in allowed)
