"""Every NATS subject HAMS uses, in one place.

Control (small, rare)
    hams.v1.heartbeat.<host>.<backend>.<unit>        agent → all, every HEARTBEAT_S
    hams.v1.agent.<host>.<backend>.<unit>.profile    request: benchmark one model
    hams.v1.scheduler.<verb>                         request: plan, view
    hams.v1.pipeline.status                          request: streams and their ledgers
    hams.v1.pipeline.groups                          request: the deployed groups, as applications may know them
    hams.v1.pipeline.read-cost                       request: what reading a video costs
    hams.v1.pipeline.load                            pipeline → all, once a second: what it costs its host
    hams.v1.pipeline.gallery.<group>                 request: list, name or forget identities of a group
    hams.v1.history.<scheduler|optimizer>            what happened, told by who decided; the broker keeps it for a while
    hams.v1.history-after                            request: what of it the broker has kept
    hams.v1.audit.<what>.<user>                      a change that a person made; the broker keeps it for a year
Data (large, many)
    hams.v1.work.<host>.<backend>.<unit>             frames and crops for one device
    hams.v1.answer.<group>.<stream>                  an agent's outputs for frames, of all nodes that it serves
    hams.v1.outputs-wanted.<group>                   a request for outputs of single nodes; holds for a while
    hams.v1.output.<group>.<stream>.<node>           a node's outputs for one frame, while a client requests them
    hams.v1.traces-wanted.<group>                    a request for traces of the next frames; holds for a while
    hams.v1.trace.<group>.<stream>                   what happened to a frame, and when, while a client requests it
    hams.v1.infer.<group>                            request: one image through a group
    hams.v1.push.<group>.<stream>                    request: the next frame of a stream that applications feed
    hams.v1.pictures-wanted.<group>                  a request for pictures; holds for a while
    hams.v1.picture.<group>.<stream>                 a delivered frame as JPEG, while a client requests it
    hams.v1.result.<group>.<stream>                  joined results, for apps
    hams.v1.kept.<group>.<stream>                    the same of a group that keeps its results: the broker stores them,
                                                     and sends them on as hams.v1.result.<group>.<stream>
    hams.v1.results-after.<group>                    request: results that the broker has kept
    hams.v1.event.<group>.<stream>                   events of tracks, for apps; the broker keeps them for a while
    hams.v1.events-after.<group>                     request: events that the broker has kept
"""

from __future__ import annotations

PREFIX = "hams.v1"

HEARTBEAT_S = 0.5
"""Seconds between two heartbeats of an agent."""

LOST_AFTER_S = 1.5
"""An agent without heartbeats for this long is lost, s: three heartbeats."""

BUCKETS = ("groups", "devices", "profiles", "plans", "variants", "health", "leader", "jobs")
"""KV buckets of the control plane; each is called ``hams-<name>`` on the broker."""

GALLERIES = "galleries"
"""KV bucket of the identities' vectors. It is not one of BUCKETS: only pipeline and admin may read it."""
UPLOADS = "uploads"
"""KV bucket of the names of uploaded networks. It is not one of BUCKETS: only the admin may read or write it, and
the scheduler, which deletes files that nothing needs, may read it."""
VERSIONS = "versions"
"""KV bucket of the groups as they ran before. It is not one of BUCKETS: only the admin, and the pipeline, which ends
candidates by their rules, may read or write it; the scheduler may read it."""
TRACKS = "hams-tracks"
"""KV bucket in which a pipeline keeps the record of each stream's open tracks, to end them after a restart."""

POSITIONS = "hams-positions"
"""KV bucket in which a pipeline keeps how far each lossless stream has come, and how far readers of results have."""

RESULTS = "hams-results"
"""JetStream stream of the kept results of all groups."""
EVENTS = "hams-events"
"""JetStream stream of the events of all groups."""
HISTORY = "hams-history"
"""JetStream stream of what happened in the system."""
AUDIT = "hams-audit"
"""JetStream stream of who changed what. Only the admin may read or write it, and nobody may take from it."""

MODEL_STORE = "hams-models"
"""Object store bucket: model files under their SHA-256."""


def bucket(name: str) -> str:
    """Full name of a control-plane KV bucket."""
    return f"hams-{name}"


def heartbeat(device: str = "*.*.*") -> str:
    """Subject of a device's heartbeats; default: of all devices."""
    return f"{PREFIX}.heartbeat.{device}"


def profile(device: str) -> str:
    """Request subject: benchmark a model on `device`."""
    return f"{PREFIX}.agent.{device}.profile"


def plan_request() -> str:
    """Request subject: plan a group without deploying it."""
    return f"{PREFIX}.scheduler.plan"


def measure_request() -> str:
    """Request subject: measure cells of the FPS matrix again."""
    return f"{PREFIX}.scheduler.measure"


def scheduler_view() -> str:
    """Request subject: everything the scheduler knows."""
    return f"{PREFIX}.scheduler.view"


def pipeline_status() -> str:
    """Request subject: all streams of the pipeline."""
    return f"{PREFIX}.pipeline.status"


def pipeline_groups() -> str:
    """Request subject: the deployed groups, as applications may know them."""
    return f"{PREFIX}.pipeline.groups"


def read_cost() -> str:
    """Request subject: what reading a video costs the pipeline."""
    return f"{PREFIX}.pipeline.read-cost"


def still() -> str:
    """Request subject: one picture of a source, which need not be of a deployed group."""
    return f"{PREFIX}.pipeline.still"


def pipeline_load() -> str:
    """Subject on which the pipeline reports what it costs its host."""
    return f"{PREFIX}.pipeline.load"


def gallery(group: str) -> str:
    """Request subject: list, name or forget the identities of a group."""
    return f"{PREFIX}.pipeline.gallery.{group}"


def work(device: str) -> str:
    """Subject on which `device` takes frames and crops."""
    return f"{PREFIX}.work.{device}"


def answer(group: str, stream: str) -> str:
    """Subject on which agents answer: the outputs of all nodes that they served for frames of one stream."""
    return f"{PREFIX}.answer.{group}.{stream}"


def outputs_wanted(group: str = "*") -> str:
    """Subject on which applications request the outputs of single nodes."""
    return f"{PREFIX}.outputs-wanted.{group}"


def output(group: str, stream: str, node: str) -> str:
    """Subject of one node's outputs for one stream, while an application requests them; ``*`` for any."""
    return f"{PREFIX}.output.{group}.{stream}.{node}"


def traces_wanted(group: str = "*") -> str:
    """Subject on which applications request the traces of the next frames."""
    return f"{PREFIX}.traces-wanted.{group}"


def trace(group: str, stream: str = "*") -> str:
    """Subject of the traces of frames, while an application requests them."""
    return f"{PREFIX}.trace.{group}.{stream}"


def infer(group: str) -> str:
    """Request subject: one image through a deployed group."""
    return f"{PREFIX}.infer.{group}"


def push(group: str = "*", stream: str = "*") -> str:
    """Request subject: the next frame of a stream with ``source: push``."""
    return f"{PREFIX}.push.{group}.{stream}"


def pictures_wanted(group: str = "*") -> str:
    """Subject on which applications request pictures."""
    return f"{PREFIX}.pictures-wanted.{group}"


def picture(group: str, stream: str = "*") -> str:
    """Subject of delivered frames as JPEG."""
    return f"{PREFIX}.picture.{group}.{stream}"


def preview_wanted(group: str = "*") -> str:
    """Subject on which pages request small pictures with their results."""
    return f"{PREFIX}.pictures-wanted.{group}.preview"


def preview(group: str, stream: str = "*") -> str:
    """Subject of small pictures with their results."""
    return f"{PREFIX}.picture.{group}.{stream}.preview"


def result(group: str, stream: str = "*") -> str:
    """Subject of joined results."""
    return f"{PREFIX}.result.{group}.{stream}"


def kept(group: str, stream: str = "*") -> str:
    """Subject on which a pipeline publishes results that the broker is to store."""
    return f"{PREFIX}.kept.{group}.{stream}"


def results_after(group: str = "*") -> str:
    """Request subject: stored results of a group."""
    return f"{PREFIX}.results-after.{group}"


def event(group: str, stream: str = "*") -> str:
    """Subject of the events of tracks."""
    return f"{PREFIX}.event.{group}.{stream}"


def events_after(group: str = "*") -> str:
    """Request subject: stored events of a group."""
    return f"{PREFIX}.events-after.{group}"


def history(by: str = "*") -> str:
    """Subject of what happened, told by ``scheduler`` or ``optimizer``."""
    return f"{PREFIX}.history.{by}"


def history_after() -> str:
    """Request subject: stored entries of the history."""
    return f"{PREFIX}.history-after"


def audit(what: str = "*", user: str = "*") -> str:
    """Subject of changes of a kind by a user of the broker; ``what`` empty: the beginning of all of them."""
    return f"{PREFIX}.audit.{what}.{user}" if what else f"{PREFIX}.audit."


def token(text: str) -> str:
    """Make `text` fit to be one subject token (host names may hold dots and capitals)."""
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in text.lower())
    return kept.strip("-") or "host"
