"""Changes single keys of a group as `hams-ctl set` does: ``nodes.face.task.threshold=0.6``. Pure.

The result is plain data, which :func:`hams_shared.group.spec.parse_group` checks as it checks a group file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from hams_shared.errors import GroupSpecError
from hams_shared.group import strict_yaml
from hams_shared.group.camera_url import redacted
from hams_shared.group.strict_yaml import StrictYamlError

NOTHING = object()
"""A value that takes the key away, so that its default holds."""


def assignment(text: str) -> tuple[str, Any]:
    """Return key and value of ``KEY=VALUE``; the value is YAML. Raises GroupSpecError, without secrets of addresses."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or "://" in key:  # an address alone, perhaps with = in its query
        raise GroupSpecError(f"{redacted(text)!r} is not KEY=VALUE", "for example nodes.face.task.threshold=0.6")
    try:
        return key.strip(), strict_yaml.load(value).data
    except StrictYamlError as error:
        raise GroupSpecError(
            f"{key.strip()}: the value is not YAML: {error}", "quote texts with special signs"
        ) from None


def edited(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a group's `data` with another `value` at `path`: keys by dots, entries of a list by index or as they are.

    Maps on the way that are not there are made. Raises GroupSpecError: the path leads through what has no keys, or
    there is no such entry, or nothing to take away.
    """
    if not all(path.split(".")):
        raise GroupSpecError(f"{path!r} is not a key", "keys are separated by single dots: streams.gate.paused")
    return dict(_put(data, path.split("."), value, ()))


def _put(at: Any, keys: Sequence[str], value: Any, above: tuple[str, ...]) -> Any:
    if isinstance(at, list):
        return _put_in_list(at, keys, value, above)
    if at is not None and not isinstance(at, dict):
        raise GroupSpecError(f"{'.'.join(above)} is a plain value, which has no keys", f"set {'.'.join(above)} itself")
    there: dict[str, Any] = at or {}
    key, rest = _first(there, keys)
    if not rest and value is NOTHING:
        if there.get(key) is None:
            raise _unknown((*above, key), there)
        return {name: one for name, one in there.items() if name != key}
    if rest and value is NOTHING and key not in there:
        raise _unknown((*above, key), there)
    return {**there, key: _put(there.get(key), rest, value, (*above, key)) if rest else value}


def _first(there: dict[str, Any], keys: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The longest first keys that are one name of the map, such as that of a tensor, and the others."""
    for length in range(len(keys), 1, -1):
        if ".".join(keys[:length]) in there:
            return ".".join(keys[:length]), keys[length:]
    return keys[0], keys[1:]


def _put_in_list(at: list[Any], keys: Sequence[str], value: Any, above: tuple[str, ...]) -> list[Any]:
    key, rest = keys[0], keys[1:]
    place = at.index(key) if key in at else int(key) if key.isascii() and key.isdecimal() else -1
    if not 0 <= place < len(at) + (not rest and value is not NOTHING):
        where = ".".join(above)
        entries = f"0 to {len(at) - 1}" if at else "none"
        raise GroupSpecError(
            f"{where} has no entry {key}", f"entries: {entries}; {len(at)} adds one" if not rest else ""
        )
    if not rest:
        new = [] if value is NOTHING else [value]
        return [*at[:place], *new, *at[place + 1 :]]
    return [*at[:place], _put(at[place], rest, value, (*above, key)), *at[place + 1 :]]


def _unknown(keys: tuple[str, ...], there: Iterable[str]) -> GroupSpecError:
    known = sorted(str(one) for one in there)
    close = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
    return GroupSpecError(f"{'.'.join(keys)} is not set", hint)


def added(data: dict[str, Any], name: str, stream: dict[str, Any]) -> dict[str, Any]:
    """Return `data` with a new stream. Raises GroupSpecError: there is one of this name."""
    if name in data["streams"]:
        raise GroupSpecError(
            f"group {data['name']} has a stream {name} already",
            f"change it with `hams-ctl set {data['name']} streams.{name}.source=…`, or choose another name",
        )
    return {**data, "streams": {**data["streams"], name: stream}}


def removed(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return `data` without a stream. Raises GroupSpecError: there is none of this name."""
    check_stream(data, name)
    return {**data, "streams": {key: one for key, one in data["streams"].items() if key != name}}


def paused(data: dict[str, Any], name: str, value: bool) -> dict[str, Any]:
    """Return `data` with a stream that is paused or not. Raises GroupSpecError: there is none of this name."""
    check_stream(data, name)
    return {**data, "streams": {**data["streams"], name: {**data["streams"][name], "paused": value}}}


def check_stream(data: dict[str, Any], name: str) -> None:
    """Raise GroupSpecError unless the group has a stream `name`."""
    if name in data["streams"]:
        return
    close = difflib.get_close_matches(name, data["streams"], n=1, cutoff=0.5)
    known = ", ".join(data["streams"]) or "none"
    hint = f"did you mean {close[0]}?" if close else f"its streams: {known}"
    raise GroupSpecError(f"group {data['name']} has no stream {name}", hint)
