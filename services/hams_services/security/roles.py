"""The subjects that each role may publish and subscribe on the broker: least privilege. Pure.

A requester gets answers on its own inbox (``_INBOX_<user>.…``), which no other user may subscribe; a service may
publish there only as an answer (`allow_responses`). Key-value buckets and the model store are JetStream streams:
clients write their contents on ``$KV.…`` and ``$O.…``, and read through ``$JS.API.…``. Only an admin may purge, delete
or change a stream.
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


def roles(boxes: Iterable[str], leaves: Iterable[str] = ()) -> list[Role]:
    """Return all users of a site with these boxes and leaves; a box has the name in its devices' ids."""
    parts = [_admin(), _scheduler(), _pipeline(), _optimizer(), _app(), _dashboard(), *(_agent(box) for box in boxes)]
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
            *PING,
        ),
        (f"{HAMS}.heartbeat.>", f"{HAMS}.pipeline.load", f"{HAMS}.scheduler.>", *SERVICE),
        answers=True,
    )


def _pipeline() -> Role:
    return Role(
        "pipeline",
        "plays streams, joins outputs, publishes results",
        (
            f"{HAMS}.work.>",
            f"{HAMS}.output.>",
            f"{HAMS}.result.>",
            f"{HAMS}.event.>",
            f"{HAMS}.picture.>",
            f"{HAMS}.pipeline.load",
            f"{HAMS}.scheduler.view",  # for the reason why a group is not placed
            *_read(*subjects.BUCKETS),
            *_write("groups", "plans"),  # only to restore what the broker lost
            *_read(subjects.GALLERIES),  # nobody else but the admin: it tells who was seen when
            *_write(subjects.GALLERIES),
            *_stream(f"KV_{subjects.TRACKS}"),
            f"$KV.{subjects.TRACKS}.>",
            *_journal(subjects.EVENTS),
            *PING,
        ),
        (
            f"{HAMS}.heartbeat.>",
            f"{HAMS}.answer.>",
            f"{HAMS}.infer.>",
            f"{HAMS}.push.>",
            f"{HAMS}.events-after.>",
            f"{HAMS}.pictures-wanted.>",
            f"{HAMS}.outputs-wanted.>",
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
        ),
        (f"{HAMS}.work.{box}.>", f"{HAMS}.agent.{box}.>", *SERVICE),
        answers=True,
    )


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
            f"{HAMS}.events-after.>",  # a pipeline answers: an application may send no request to JetStream
            f"{HAMS}.pictures-wanted.>",
            f"{HAMS}.outputs-wanted.>",
        ),
        (f"{HAMS}.result.>", f"{HAMS}.event.>", f"{HAMS}.output.>", f"{HAMS}.picture.>"),
    )


def _dashboard() -> Role:
    return Role(
        "dashboard",
        "reads, and changes nothing",
        (
            f"{HAMS}.scheduler.view",
            f"{HAMS}.pipeline.status",
            f"{HAMS}.events-after.>",
            f"{HAMS}.pictures-wanted.>",
            f"{HAMS}.outputs-wanted.>",
            *SERVICE,
        ),
        (f"{HAMS}.heartbeat.>", f"{HAMS}.result.>", f"{HAMS}.event.>", f"{HAMS}.output.>", f"{HAMS}.picture.>"),
    )


def _leaf(name: str, parts: Sequence[Role]) -> Role:
    """The rights of all parts that may connect to the leaf together, without those of the admin.

    The leaf authenticates its clients and enforces the rights of each; the cluster lets the leaf forward these for all
    of them. Inboxes are listed in both directions: `allow_responses` works on the cluster's side of the link only, so
    without them a leaf would not send answers.
    """
    common = [part for part in parts if part.publish != ALL]
    inboxes = [_inbox(part.user) for part in parts]
    return Role(
        f"leaf-{name}",
        f"the broker {name}, for its clients",
        (*(one for part in common for one in _of_cluster(part.publish)), *inboxes),
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


def _write(*buckets: str) -> tuple[str, ...]:
    return tuple(f"$KV.{subjects.bucket(name)}.>" for name in buckets)


def _inbox(user: str) -> str:
    return f"_INBOX_{user}.>"


def permissions(role: Role, public_key: str) -> str:
    """Return the role as an entry of nats-server's list of users."""
    inbox = _inbox(role.user)
    if role.publish == ALL:
        return f"    # {role.about}\n    {{ nkey: {public_key} }}\n"
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


def accounts(users: Iterable[tuple[Role, str]]) -> str:
    """Return the broker's accounts: HAMS with these users (role, public key) and no others."""
    return _accounts("    jetstream: enabled\n", users)


def leaf_accounts(users: Iterable[tuple[Role, str]]) -> str:
    """Return the same for a leaf: it uses the buckets of the cluster."""
    return _accounts("", ((replace(r, publish=tuple(_of_cluster(r.publish))), key) for r, key in users if not r.leaf))


def _accounts(store: str, users: Iterable[tuple[Role, str]]) -> str:
    entries = "".join(permissions(role, key) for role, key in users)
    return f"accounts {{\n  {ACCOUNT} {{\n{store}    users: [\n{entries}    ]\n  }}\n}}\n"
