"""Which sources a group file of the page may name, and what it has from the group that is deployed. Pure but for files.

The page never gives its users more than what `hams-ctl deploy` gives the same credentials, but for what hams-web itself
reads and fetches on its own host; that is bounded here. docs/web-deploy.md says what is allowed, and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
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
_DEVICE = re.compile(r"camera:(?!.*\.\.)(/dev/[^*?]+|[^/*?]+)")


def read(text: str, files: Files, deployed: GroupRecord | None = None) -> GroupSpec:
    """Return the group that `text` describes; `deployed` is the one of its name, whose sources it may keep.

    Raises:
        GroupSpecError: as :func:`hams_services.models.groups.load_group`, or it names a source that the page refuses.
    """
    kept = _paths(deployed.spec) if deployed else frozenset()
    spec = group_of(text, ORIGIN, partial(files.find, known=kept), partial(with_zoo, manifests=zoo()))
    if deployed:
        spec = _with_secrets(spec, deployed.spec)
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


def _with_secrets(spec: GroupSpec, deployed: GroupSpec) -> GroupSpec:
    """Put the secrets of cameras back, which the page does not show."""
    streams = {}
    for name, stream in spec.streams.items():
        for before in deployed.streams.values():
            shown = before.without_secrets()
            change = {
                key: getattr(before, key)
                for key in ("source", "substream")
                if getattr(stream, key) is not None and getattr(stream, key) == getattr(shown, key)
            }
            stream = stream.model_copy(update=change)
        streams[name] = stream
    return spec.model_copy(update={"streams": streams})


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
