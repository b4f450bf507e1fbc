"""The subjects that each role may publish and subscribe on the broker: least privilege. Pure.

A requester gets answers on its own inbox (``_INBOX_<user>.…``), which no other user may subscribe; a service may
publish there only as an answer (`allow_responses`), with two exceptions: pipelines may always answer applications, and
agents the scheduler. A broker that reads its users again, and a connection that takes another key, forget whom a
service may answer: a video that is read, or a benchmark that runs for minutes, would be lost. Key-value buckets and the
model store are JetStream streams: clients write their contents on ``$KV.…`` and ``$O.…``, and read through
``$JS.API.…``. Only an admin may purge, delete or change a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hams_shared.wire import subjects

HAMS = subjects.PREFIX
ACCOUNT = "HAMS"
"""The broker's account of all users."""
DOMAIN = "hams"
"""JetStream domain of a cluster, by which leaves find it."""
ALL = (">",)
KEPT = tuple(
    f"$JS.{domain}API.STREAM.{verb}.{subjects.AUDIT}"
    for domain in ("", f"{DOMAIN}.")
    for verb in ("UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE")
)
"""What nobody may do, not even the admin: change what the audit keeps."""
SERVICE = ("$SRV.>",)
"""Requests for a service's identity and statistics."""
PING = ("$SRV.PING.>",)
"""A part's health check finds the part by these."""
ANSWER_S = 1200
"""How long a request may wait for its answer, s. Plans that wait for benchmarks take longest."""


@dataclass(frozen=True)
class Role:
    """One user of the broker."""

    user: str
    about: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False
    """Whether it answers requests."""
    leaf: bool = False
    """Whether it is a broker that connects to a cluster as a leaf."""


NAMED = ("app-", "dashboard-")
"""Prefixes of users that have the rights of ``app`` and ``dashboard``, and keys of their own."""
LEAF = "leaf-"
"""Prefix of the users that are brokers of leaves."""


def roles(boxes: Iterable[str], leaves: Iterable[str] = (), named: Iterable[str] = ()) -> list[Role]:
    """Return all users of a site with these boxes and leaves; a box has the name in its devices' ids.

    `named` are further users, such as ``app-door``, with the rights of ``app`` or ``dashboard``.
    """
    more = [replace(_app() if user.startswith("app-") else _dashboard(), user=user) for user in named]
    apps = ["app", *(role.user for role in more if role.user.startswith("app-"))]
    parts = [_admin(), _scheduler(), _pipeline(apps), _optimizer(), _app(), _dashboard()]
    parts += [*more, *(_agent(box) for box in boxes)]
    return [*parts, *(_leaf(name, parts) for name in leaves)]


def _admin() -> Role:
    return Role("admin", "deploys, undeploys, reads everything", ALL, ALL)


def _scheduler() -> Role:
    return Role(
        "scheduler",
        "measures, places, writes plans",
        (
            f"{HAMS}.agent.>",
            f"{HAMS}.pipeline.read-cost",
            *_read(*subjects.BUCKETS),
            *_write(*subjects.BUCKETS),
            subjects.history("scheduler"),
            *_journal(subjects.HISTORY),
            *_read(subjects.VERSIONS, subjects.UPLOADS),  # what of the model files is still needed
            *_collect_models(),
            *PING,
        ),
        (
            f"{HAMS}.heartbeat.>",
            f"{HAMS}.pipeline.load",
            f"{HAMS}.scheduler.>",
            subjects.history("scheduler"),  # what another one told while it led
            subjects.history_after(),
            *SERVICE,
        ),
        answers=True,
    )


def _pipeline(apps: Iterable[str]) -> Role:
    return Role(
        "pipeline",
        "plays streams, joins outputs, publishes results",
        (
            f"{HAMS}.work.>",
            f"{HAMS}.output.>",
            f"{HAMS}.result.>",
            f"{HAMS}.kept.>",
            f"{HAMS}.event.>",
            f"{HAMS}.picture.>",
            f"{HAMS}.trace.>",
            f"{HAMS}.pipeline.load",
            f"{HAMS}.scheduler.view",  # for the reason why a group is not placed
            *_read(*subjects.BUCKETS, subjects.VERSIONS, subjects.GALLERIES),  # galleries: else the admin alone
            *_write("groups", "plans", subjects.VERSIONS),  # to restore what was lost, to end candidates by rules
            *_write(subjects.GALLERIES),
            f"$JS.API.STREAM.MSG.DELETE.KV_{subjects.bucket(subjects.GALLERIES)}",  # erases what is replaced
            *_stream(f"KV_{subjects.TRACKS}"),
            f"$KV.{subjects.TRACKS}.>",
            *_journal(subjects.EVENTS),
            *_kept_results(),
            *PING,
            *(_inbox(user) for user in apps),  # a broker that reads its users again forgets whom a service may answer
        ),
        (
            f"{HAMS}.heartbeat.>",
            f"{HAMS}.answer.>",
            f"{HAMS}.infer.>",
            f"{HAMS}.push.>",
            f"{HAMS}.events-after.>",
            f"{HAMS}.results-after.>",
            f"{HAMS}.pictures-wanted.>",
            f"{HAMS}.outputs-wanted.>",
            f"{HAMS}.traces-wanted.>",
            f"{HAMS}.pipeline.>",
            *SERVICE,
        ),
        answers=True,
    )


def _agent(box: str) -> Role:
    return Role(
        f"agent-{box}",
        f"serves the devices of {box}",
        (
            f"{HAMS}.heartbeat.{box}.>",
            f"{HAMS}.work.>",  # crops, to whichever device serves a child
            f"{HAMS}.answer.>",
            *_read(*subjects.BUCKETS),
            *(f"$KV.{subjects.bucket(name)}.{box}.>" for name in subjects.BUCKETS if name in OWN),
            *PING,
            *_read_models(),
            f"$O.{subjects.MODEL_STORE}.>",  # only to restore what the broker lost; digests name files
            SCHEDULER_ANSWERS,
        ),
        (f"{HAMS}.work.{box}.>", f"{HAMS}.agent.{box}.>", *SERVICE),
        answers=True,
    )


SCHEDULER_ANSWERS = "_INBOX_scheduler.*.*"
"""Where the scheduler's requests want their answers. What it watches in buckets comes to ``_INBOX_scheduler.*``."""
OWN = ("devices", "health")
"""Buckets in which an agent writes the keys of its own box."""


def _optimizer() -> Role:
    return Role(
        "optimizer",
        "takes jobs, creates variants of networks",
        (
            f"{HAMS}.scheduler.>",
            f"{HAMS}.pictures-wanted.>",
            *_read(*subjects.BUCKETS),
            *_write("variants", "jobs"),
            subjects.history("optimizer"),
            *_journal(subjects.HISTORY),
            *_read_models(),
            f"$O.{subjects.MODEL_STORE}.>",
            *PING,
        ),
        (f"{HAMS}.result.>", f"{HAMS}.picture.>", *SERVICE),
        answers=True,
    )


def _app() -> Role:
    return Role(
        "app",
        "reads results and events, sends images and frames",
        (
            f"{HAMS}.infer.>",
            f"{HAMS}.push.>",
            f"{HAMS}.pipeline.groups",
            f"{HAMS}.events-after.>",  # a pipeline answers: an application may send no request to JetStream
            f"{HAMS}.results-after.>",
            f"{HAMS}.pictures-wanted.>",
            f"{HAMS}.outputs-wanted.>",
            f"{HAMS}.traces-wanted.>",
        ),
        (f"{HAMS}.result.>", f"{HAMS}.event.>", f"{HAMS}.output.>", f"{HAMS}.picture.>", f"{HAMS}.trace.>"),
    )


def _dashboard() -> Role:
    return Role(
        "dashboard",
        "reads, and changes nothing",
        (
            f"{HAMS}.scheduler.view",
            f"{HAMS}.pipeline.status",
            f"{HAMS}.pipeline.groups",
            f"{HAMS}.events-after.>",
            f"{HAMS}.results-after.>",
            subjects.history_after(),
            f"{HAMS}.pictures-wanted.>",
            f"{HAMS}.outputs-wanted.>",
            f"{HAMS}.traces-wanted.>",
            *SERVICE,
        ),
        (
            f"{HAMS}.heartbeat.>",
            f"{HAMS}.result.>",
            f"{HAMS}.event.>",
            subjects.history(),
            f"{HAMS}.output.>",
            f"{HAMS}.picture.>",
            f"{HAMS}.trace.>",
            "$SRV.PING.hams-web",  # the page runs with these credentials, and its health check asks it
        ),
        answers=True,
    )


def _leaf(name: str, parts: Sequence[Role]) -> Role:
    """The rights of all parts that may connect to the leaf together, without those of the admin.

    The leaf authenticates its clients and enforces the rights of each; the cluster lets the leaf forward these for all
    of them. Inboxes are listed in both directions: `allow_responses` works on the cluster's side of the link only, so
    without them a leaf would not send answers.
    """
    common = [part for part in parts if part.publish != ALL]
    audit = (*(subjects.audit("*", part.user) for part in parts if part.publish == ALL), *_journal(subjects.AUDIT))
    inboxes = [_inbox(part.user) for part in parts]
    return Role(
        f"{LEAF}{name}",
        f"the broker {name}, for its clients",
        (*(one for part in common for one in _of_cluster(part.publish)), *_of_cluster(audit), *inboxes),
        (*(one for part in common for one in part.subscribe), *inboxes),
        leaf=True,
    )


def _of_cluster(subjects_: Iterable[str]) -> list[str]:
    """Return subjects as a leaf maps them by `default_js_domain`, before it checks rights."""
    api = f"$JS.{DOMAIN}.API."
    return [one.replace("$JS.API.", api).replace("$KV.", f"{api}$KV.") for one in subjects_]


def _read(*buckets: str) -> tuple[str, ...]:
    found: list[str] = []
    for name in buckets:
        found += _stream(f"KV_{subjects.bucket(name)}")
    return ("$JS.API.INFO", "$JS.FC.>", *found)


def _read_models() -> tuple[str, ...]:
    return tuple(_stream(f"OBJ_{subjects.MODEL_STORE}"))


def _collect_models() -> tuple[str, ...]:
    """Return the rights to delete files: a marker in place of an object's description, and its chunks purged."""
    name = f"OBJ_{subjects.MODEL_STORE}"
    return (*_stream(name), f"$JS.API.STREAM.PURGE.{name}", f"$O.{subjects.MODEL_STORE}.M.>")


def _stream(name: str) -> list[str]:
    """Return the rights to open or create a stream, read and follow it; not to change, purge or delete it.

    DIRECT.GET is not among them: it sends the stored bytes to any subject that the requester names, so that an agent
    could copy its own bytes over a plan. MSG.GET answers with JSON, which no part takes for a record.
    """
    api = "$JS.API"
    return [
        f"{api}.STREAM.CREATE.{name}",
        f"{api}.STREAM.INFO.{name}",
        f"{api}.STREAM.MSG.GET.{name}",
        f"{api}.CONSUMER.CREATE.{name}",
        f"{api}.CONSUMER.CREATE.{name}.>",
        f"{api}.CONSUMER.INFO.{name}.>",
        f"{api}.CONSUMER.DELETE.{name}.>",
    ]


def _journal(name: str) -> tuple[str, ...]:
    """Return the rights to open or create a journal, and read it; messages are published on its own subjects."""
    return tuple(f"$JS.API.STREAM.{verb}.{name}" for verb in ("CREATE", "INFO", "MSG.GET"))


def _kept_results() -> tuple[str, ...]:
    """Return the rights of a pipeline to keep results and its positions in streams."""
    return (
        *_journal(subjects.RESULTS),
        f"$JS.API.STREAM.PURGE.{subjects.RESULTS}",  # the oldest of a group that has more than it may keep
        *_stream(f"KV_{subjects.POSITIONS}"),
        f"$KV.{subjects.POSITIONS}.>",
    )


def _write(*buckets: str) -> tuple[str, ...]:
    return tuple(f"$KV.{subjects.bucket(name)}.>" for name in buckets)


def _inbox(user: str) -> str:
    return f"_INBOX_{user}.>"


def permissions(role: Role, public_key: str) -> str:
    """Return the role as an entry of nats-server's list of users."""
    inbox = _inbox(role.user)
    if role.publish == ALL:
        denied = f"permissions: {{ publish: {{ deny: {_list(KEPT)} }} }}"
        return f"    # {role.about}\n    {{ nkey: {public_key}, {denied} }}\n"
    lines = [
        f"    # {role.user}: {role.about}",
        f"    {{ nkey: {public_key}, {'allowed_connection_types: [LEAFNODE], ' if role.leaf else ''}permissions: {{",
        f"        publish: {{ allow: {_list((*role.publish, inbox))} }}",
        f"        subscribe: {{ allow: {_list((*role.subscribe, inbox))} }}",
    ]
    if role.answers:
        lines.append(f'        allow_responses: {{ max: -1, expires: "{ANSWER_S}s" }}')
    return "\n".join([*lines, "    } }\n"])


def _list(subjects_: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{one}"' for one in dict.fromkeys(subjects_)) + "]"


def accounts(users: Iterable[tuple[Role, str]], system: Iterable[str] = ()) -> str:
    """Return the broker's accounts: HAMS with these users (role, public key) and no others.

    `system` are public keys that may ask the broker for its connections and to read its users again, and no more.
    """
    return _accounts("    jetstream: enabled\n", users, system)


def leaf_accounts(users: Iterable[tuple[Role, str]], system: Iterable[str] = ()) -> str:
    """Return the same for a leaf: it uses the buckets of the cluster."""
    own = ((replace(r, publish=tuple(_of_cluster(r.publish))), key) for r, key in users if not r.leaf)
    return _accounts("", own, system)


def _accounts(store: str, users: Iterable[tuple[Role, str]], system: Iterable[str]) -> str:
    entries = "".join(permissions(role, key) for role, key in users)
    own = f"  {ACCOUNT} {{\n{store}    users: [\n{entries}    ]\n  }}\n"
    keepers = "".join(f"    {{ nkey: {key}, permissions: {{ {_SYSTEM} }} }}\n" for key in system)
    server = f"  $SYS {{\n    # hams-ctl credentials\n    users: [\n{keepers}    ]\n  }}\n" if keepers else ""
    return f"accounts {{\n{server}{own}}}\n"


_SYSTEM = (
    'publish: ["$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.SERVER.*.CONNZ", "$SYS.REQ.SERVER.*.RELOAD", "_INBOX_system.>"]'
    ', subscribe: ["_INBOX_system.>"]'
)
