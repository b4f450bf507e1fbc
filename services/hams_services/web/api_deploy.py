"""api/deploy and what belongs to it: the schema, texts of groups, checks, the scheduler's dry run, deploy, undeploy."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files as resources
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from hams_services.models.group_text import group_text
from hams_services.models.prepare import bring_in
from hams_services.models.uploads import uploads
from hams_services.web.admission import known_refs, read
from hams_services.web.examples import EXAMPLES
from hams_services.web.sandbox import make_files
from hams_services.web.sessions import may
from hams_services.web.site import Endpoint, Site, actor_of, answer, session_of, taken
from hams_services.web.work import Tell, error_of, told
from hams_shared.bus.ask import plans, scheduler_view
from hams_shared.bus.control import Control
from hams_shared.bus.deployments import conflict
from hams_shared.bus.protocol import Bus
from hams_shared.errors import BadInputError, ConflictError, DeadlineError, HamsError, NotFoundError
from hams_shared.group.findings import NAME_PATTERN
from hams_shared.group.spec import GroupSpec
from hams_shared.runtime.lifecycle import ended
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.group import GroupRecord
from hams_shared.wire.messages.scheduler import PlanRequest, StrategyAnswer

TEXT = 1 << 20
"""Longest group file, characters."""
ASK_S = 5.0
SERVE_S, STREAMS_S = 600.0, 10.0
"""How long a group may take to serve, and its streams to start then, s."""
PLAN_S = 600.0
"""How long a dry run may take, s: networks that are new are measured first."""
STRATEGIES = ("hfs", "mfs", "optimal", "replicated")
"""Those that a dry run compares, beside the group's own."""
STATES = {"profiling": "measure", "planning": "place", "loading": "load", "waiting": "place"}
"""The page's step by the state of a group."""
_GROUP_NAME = re.compile(r"^name:\s*['\"]?([a-z][a-z0-9_-]{0,47})['\"]?\s*(?:#.*)?$", re.M)


class Text(BaseModel):
    """A group file."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=TEXT)


class Wanted(Text):
    """A group file that is to be deployed."""

    version: int | None = Field(None, ge=0, description="the one that the text was made from, where it was")


async def start(request: Request, site: Site) -> Response:
    """Answer what the view shows at first: groups, examples, files, uploads."""
    session = session_of(request)
    changes = may(session.right, "change")
    try:
        groups = [group.name for group in (await scheduler_view(site.bus, timeout=ASK_S, matrix=False)).groups]
    except (NotFoundError, DeadlineError):
        groups = []  # the page's banner names it
    known = await uploads(site.bus_of(session)) if changes else {}
    shown = [
        {"name": name, "size": one.size, "inputs": one.inputs, "outputs": one.outputs, "uploaded_at": one.uploaded_at}
        for name, one in known.items()
    ]
    return answer(
        {
            "groups": groups,
            "examples": EXAMPLES,
            "files": site.files.listed() if changes else [],
            "folders": [folder.name for folder in site.files.folders],
            "uploads": shown,
            "upload_mib": site.options.upload_mib,
        }
    )


async def schema(_: Request, _site: Site) -> Response:
    """Answer the JSON Schema of group files."""
    text = resources("hams_services.models").joinpath("group.schema.json").read_bytes()
    return Response(text, 200, {"Cache-Control": "no-cache"}, "application/schema+json")


async def text_of(request: Request, site: Site) -> Response:
    """Answer a deployed group as a group file, without secrets."""
    record = await record_of(site.bus_of(session_of(request)) if _changes(request) else None, site, _name(request))
    if record is None:
        raise NotFoundError(f"group {_name(request)} is not deployed")
    return answer({"name": record.spec.name, "text": group_text(record.spec), "version": record.version})


async def validate(request: Request, site: Site) -> Response:
    """Answer what is wrong in a group file, and where."""
    asked = await taken(request, Text, 4 * TEXT)
    try:
        spec = await read_spec(request, site, asked.text)
    except HamsError as error:
        return answer({"ok": False, **error_of(error)})
    streams = {name: stream.without_secrets().source for name, stream in spec.streams.items()}
    nodes = {name: node.parent for name, node in spec.nodes.items()}
    return answer({"ok": True, "findings": [], "name": spec.name, "streams": streams, "nodes": nodes})


async def dry_run(request: Request, site: Site) -> Response:
    """Bring the networks in, have them measured, and answer what each strategy would do; nothing is deployed."""
    asked = await taken(request, Text, 4 * TEXT)
    bus = site.bus_of(session_of(request))

    async def do(tell: Tell) -> dict[str, Any]:
        spec = await read_spec(request, site, asked.text)
        record = await _brought(bus, site, spec, tell)
        names: tuple[str, ...] = tuple(dict.fromkeys([spec.strategy, *STRATEGIES]))
        control = Control(bus)
        watching = asyncio.create_task(_watch(control, tell), name="watch a dry run")
        try:  # no TaskGroup, which would wrap the scheduler's error
            found = await plans(bus, PlanRequest(group=record, strategies=names), timeout=PLAN_S, patience=ASK_S)
        finally:
            await ended([watching])
        return {"name": spec.name, "strategy": spec.strategy, "answers": [_planned(one) for one in found.answers]}

    return told(site.work, do)


async def deploy(request: Request, site: Site) -> Response:
    """Deploy a group, and answer its progress until it serves and its streams play.

    ConflictError: it is another version now than the one that the text was made from, or changes just now.
    """
    asked = await taken(request, Wanted, 4 * TEXT)
    control = Control(site.bus_of(session_of(request)), actor_of(request))

    async def do(tell: Tell) -> dict[str, Any]:
        spec = await read_spec(request, site, asked.text)
        base = await control.running(spec.name)
        tell("import: ask the scheduler", 0, 0)
        await control.view(matrix=False)
        try:
            if asked.version is not None and (base.record is None or base.record.version != asked.version):
                raise conflict(spec.name, base)
            runs = await control.deploy_changes(await _brought(control.bus, site, spec, tell), base)
        except ConflictError as error:
            raise ConflictError(error.text, "open the group here again, and repeat your change in that text") from None
        return {**await _served(control, runs, tell), "version": runs.version, "changed": runs != base.record}

    return told(site.work, do)


async def undeploy(request: Request, site: Site) -> Response:
    """Stop a group."""
    await Control(site.bus_of(session_of(request)), actor_of(request)).undeploy(_name(request))
    return answer({"undeployed": _name(request)})


async def read_spec(request: Request, site: Site, text: str) -> GroupSpec:
    """Return the group of a text, as this page takes it. Raises GroupSpecError."""
    named = _GROUP_NAME.search(text)
    bus = site.bus_of(session_of(request)) if _changes(request) else None
    deployed = await record_of(bus, site, named[1]) if named else None
    return await asyncio.to_thread(read, text, site.files, deployed)


async def record_of(bus: Bus | None, site: Site, name: str) -> GroupRecord | None:
    """Return a group as it is deployed; without a `bus` that may read groups, the one of its plan."""
    if bus is not None:
        entry = await (await bus.kv(subjects.bucket("groups"))).get(name)
        return codec.decode(GroupRecord, entry.value) if entry is not None and entry.value is not None else None
    try:
        view = await scheduler_view(site.bus, timeout=ASK_S, matrix=False, group=name)
    except NotFoundError:
        return None
    plan = next((one.active or one.next for one in view.groups if one.name == name), None)
    return plan.group if plan else None


async def _brought(bus: Bus, site: Site, spec: GroupSpec, tell: Tell) -> GroupRecord:
    """Fetch the networks of a group, and store them."""
    deployed = await record_of(bus, site, spec.name)
    known = known_refs(spec, deployed, site.files)

    def progress(what: str, done: int, total: int) -> None:
        tell(f"import: {what}", done, total)

    return await bring_in(Control(bus), spec, progress, make=make_files, known=known)


async def _watch(control: Control, tell: Tell) -> None:
    """Tell how many benchmarks a dry run still waits for."""
    most = 0
    while True:
        await asyncio.sleep(0.5)
        try:
            waiting = (await control.view(matrix=False)).waiting_profiles
        except HamsError:
            continue
        most = max(most, waiting)
        tell("measure: networks on all devices" if waiting else "place: plan", most - waiting, most)


async def _served(control: Control, record: GroupRecord, tell: Tell) -> dict[str, Any]:
    """Follow a group until it serves and its streams have begun."""
    view = None
    try:
        async with asyncio.timeout(SERVE_S):
            async for view in control.follow(record):
                step = STATES.get(view.state, "load")
                tell(f"{step}: {view.text or view.state}", view.done, view.total)
    except TimeoutError:
        state = f"{view.state}: {view.text}" if view else "the scheduler has not seen it"
        raise DeadlineError(f"it does not serve after {SERVE_S:g} s ({state})", "it stays deployed") from None
    streams: list[dict[str, str]] = []
    if record.spec.streams:
        tell("stream: start", 0, 0)
        views = await control.until_streams_run(record, STREAMS_S)
        streams = [{"name": one.stream, "state": one.state, "text": one.text} for one in views]
    plan = view.active if view else None
    return {
        "name": record.spec.name,
        "fps": plan.fps if plan else 0.0,
        "strategy": plan.strategy if plan else "",
        "shares": plan.shares if plan else {},
        "streams": streams,
    }


def _planned(one: StrategyAnswer) -> dict[str, Any]:
    return {
        "strategy": one.strategy,
        "fps": one.fps,
        "bound_fps": one.bound_fps,
        "bottleneck": one.bottleneck,
        "shares": one.shares,
        "explanation": one.explanation,
        "error": one.error.model_dump() if one.error else None,
    }


def _changes(request: Request) -> bool:
    return may(session_of(request).right, "change")


def _name(request: Request) -> str:
    name = str(request.path_params["name"])
    if not re.fullmatch(NAME_PATTERN, name):
        raise BadInputError(f"{name[:100]!r} is no name of a group")
    return name


ENDPOINTS = (
    Endpoint("GET", "deploy", "view", start),
    Endpoint("GET", "schema", "view", schema),
    Endpoint("GET", "groups/{name}", "view", text_of),
    Endpoint("DELETE", "groups/{name}", "change", undeploy),
    Endpoint("POST", "validate", "view", validate),
    Endpoint("POST", "dry-run", "change", dry_run),
    Endpoint("POST", "deploy", "change", deploy),
)
