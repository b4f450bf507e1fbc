"""Which sources a group file of the page may name, and what it has from the group that is deployed. Pure but for files.

The page never gives its users more than what `hams-ctl deploy` gives the same credentials, but for what hams-web itself
reads and fetches on its own host; that is bounded here. docs/web-deploy.md says what is allowed, and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hams_services.models.groups import with_zoo
from hams_services.models.manifest import zoo
from hams_services.models.prepare import same_network
from hams_services.models.uploads import UPLOADED
from hams_services.web.files import Files
from hams_shared.errors import Finding, GroupSpecError
from hams_shared.group.camera_url import parse, redacted
from hams_shared.group.source_kind import source_kind
from hams_shared.group.spec import GroupSpec, group_of
from hams_shared.runtime.addresses import check_literal
from hams_shared.runtime.reach import Use
from hams_shared.wire.messages.group import GroupRecord, ModelRef

ORIGIN = "group file"
_SCHEME = re.compile(r"^([a-z][a-z0-9+]+):")
_ADDRESSES = {"streams": ("source", "substream"), "nodes": ("model",)}
"""Keys of a group file that may hold secrets."""
_DEVICE = re.compile(r"camera:(?!.*\.\.)(/dev/[^*?]+|[^/*?]+)")


def read(text: str, files: Files, deployed: GroupRecord | None = None) -> GroupSpec:
    """Return the group that `text` describes; `deployed` is the one of its name, whose sources it may keep.

    Raises:
        GroupSpecError: as :func:`hams_services.models.groups.load_group`, or it names a source that the page refuses.
    """
    kept = _paths(deployed.spec) if deployed else frozenset()

    def complete(data: Any) -> Any:
        return with_zoo(_with_secrets(data, deployed.spec) if deployed else data, zoo())

    spec = group_of(text, ORIGIN, partial(files.find, known=kept), complete)
    findings = [*_models(spec), *_streams(spec, files, kept)]
    if findings:
        text = "; ".join(f"{one.path}: {one.text}" for one in findings)
        raise GroupSpecError(text, "see docs/web-deploy.md", tuple(findings))
    return spec


def known_refs(spec: GroupSpec, deployed: GroupRecord | None, files: Files) -> dict[str, ModelRef]:
    """Return the networks, by node, that are in the broker's store and that this page could not read again."""
    if deployed is None:
        return {}
    found = {}
    for name, node in spec.nodes.items():
        same = same_network(deployed.spec, name, node)
        if same and Path(node.model).is_absolute() and not _readable(node.model, files):
            found[name] = deployed.models[name]
    return found


def _readable(name: str, files: Files) -> bool:
    try:
        files.find(name)
    except GroupSpecError:
        return False
    return True


def _paths(spec: GroupSpec) -> frozenset[str]:
    models = {node.model for node in spec.nodes.values()}
    sources = {stream.source for stream in spec.streams.values()}
    return frozenset(name for name in models | sources if not _SCHEME.match(name))


class _Address(NamedTuple):
    """An address of the deployed group."""

    name: str
    """Of its stream or node."""
    key: str
    shown: str
    """As the page shows it."""
    full: str


def _addresses(part: str, deployed: GroupSpec) -> list[_Address]:
    """The addresses of all streams or nodes of a group."""
    shown, full = (getattr(spec, part) for spec in (deployed.without_secrets(), deployed))
    places = [(name, key) for name in full for key in _ADDRESSES[part] if getattr(full[name], key) is not None]
    return [_Address(name, key, getattr(shown[name], key), getattr(full[name], key)) for name, key in places]


def _with_secrets(data: Any, deployed: GroupSpec) -> Any:
    """Return the content of a group file with the secrets of its addresses, which the page does not show.

    Raises GroupSpecError: an address may be that of several streams or nodes, which have different secrets.
    """
    if not isinstance(data, dict):
        return data  # the check of the group names the error
    found: list[Finding] = []
    for part in _ADDRESSES:
        if not isinstance(data.get(part), dict):
            continue  # as above
        known = _addresses(part, deployed)
        put = {name: _put_back(part, name, one, known, found) for name, one in data[part].items()}
        data = {**data, part: put}
    if found:
        text = "; ".join(f"{one.path}: {one.text}" for one in found)
        raise GroupSpecError(text, "see docs/web-deploy.md", tuple(found))
    return data


def _put_back(part: str, name: object, one: Any, known: Sequence[_Address], found: list[Finding]) -> Any:
    """Return a stream or node with its secrets; what is ambiguous is added to `found`."""
    if not isinstance(one, dict):
        return one
    put = dict(one)
    for key in _ADDRESSES[part]:
        text = one.get(key)
        meant = _meant(text.strip(), str(name), key, known) if isinstance(text, str) else []
        full = {address.full for address in meant}
        if len(full) == 1:
            put[key] = full.pop()
        elif full:
            names = ", ".join(sorted({address.name for address in meant}))
            why = f"the deployed {part} {names} have this address with different secrets: write it in full"
            found.append(Finding(None, None, f"{part}.{name}.{key}", why))
    return put


def _meant(text: str, name: str, key: str, known: Sequence[_Address]) -> list[_Address]:
    """Return the addresses that are shown as `text`: of the same name and key, else those that come next."""
    same = [one for one in known if one.shown == text]
    near = [one for one in same if one.name == name] or same
    best = [one for one in near if one.key == key] or near
    return [one for one in best if one.full == text] or best  # one without secrets is in full already


def _models(spec: GroupSpec) -> Iterator[Finding]:
    for name, node in spec.nodes.items():
        scheme = (_SCHEME.match(node.model) or [""])[0].rstrip(":")
        where = f"nodes.{name}.model"
        if scheme not in ("", "pypi", "https", UPLOADED.rstrip(":")):
            yield Finding(None, None, where, f"{scheme}: sources are not taken from this page")
        elif scheme == "https" and (why := refused_host(node.model, "download")):
            yield Finding(None, None, where, why)


def _streams(spec: GroupSpec, files: Files, kept: frozenset[str]) -> Iterator[Finding]:
    for name, stream in spec.streams.items():
        where, source = f"streams.{name}.source", stream.source
        kind, scheme = source_kind(source), (_SCHEME.match(source) or [""])[0]
        if kind == "camera" and not _DEVICE.fullmatch(source):
            yield Finding(None, None, where, f"{redacted(source)[:100]} is no camera: camera:0, or camera:/dev/…")
        elif kind == "file" and scheme not in ("", "pypi:"):
            yield Finding(None, None, where, f"{scheme} sources are not taken from this page: write a path or pypi:…")
        elif kind == "file" and not scheme and source not in kept and files.leads_out(Path(source)):
            yield Finding(None, None, where, "the folder has links that lead out of the page's folders")
        for url in (source, stream.substream or ""):
            kind = source_kind(url)
            if kind in ("rtsp", "http") and (why := refused_host(url, "camera" if kind == "rtsp" else "http-camera")):
                yield Finding(None, None, where, why)


def refused_host(url: str, use: Use) -> str:
    """Return why nothing is fetched from the host of `url` for `use`, by its address alone; empty: it is.

    A name is resolved and checked when it is connected to.
    """
    try:
        host = urlsplit(url).hostname if use == "download" else parse(url).host
        check_literal(host or "", use, GroupSpecError)
    except ValueError:
        return ""  # another check names it
    except GroupSpecError as error:
        return error.text
    return "" if host else "it names no host"
