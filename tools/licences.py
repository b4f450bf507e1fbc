"""May we ship this? ``licences.py POLICY SBOM…``: the licences of what images contain, as a table for each image.

Fails on a licence that `deploy/image/licences.toml` does not allow, and on a component whose licence is unknown. The
documents are CycloneDX; the table is written beside each, as Markdown.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from license_expression import LicenseExpression, get_spdx_licensing  # type: ignore[import-not-found,unused-ignore]

Component = dict[str, Any]
KINDS = {"pypi": "Python package", "deb": "Debian package", "generic": "program", "wheel": "library in a wheel"}
CLASSIFIER = "License :: "
_SPDX = get_spdx_licensing()


@dataclass(frozen=True)
class Policy:
    """What is allowed; each section of the file gives its reasons."""

    allowed: frozenset[str]
    """SPDX identifiers."""
    forbidden: tuple[str, ...]
    """Parts of names that no licence of anything may have, in lower case."""
    names: dict[str, str] = field(default_factory=dict)
    """SPDX identifiers by the names that packages use."""
    stated: dict[str, str] = field(default_factory=dict)
    """SPDX expressions by ``KIND/PACKAGE``, of packages whose metadata are wrong or silent."""
    bundled: dict[str, str] = field(default_factory=dict)
    """SPDX expressions by ``LIBRARY`` or ``WHEEL/LIBRARY``, both may end in ``*``."""


def load(path: Path) -> Policy:
    """Read the policy."""
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    stated = {name: entry["licence"] for name, entry in found["stated"].items()}
    return Policy(
        frozenset(found["allowed"]), tuple(found["forbidden"]), dict(found["names"]), stated, dict(found["bundled"])
    )


def kind(component: Component) -> str:
    """Return the kind of a component: that of its package URL, else `wheel` inside another, else `pypi` (HAMS)."""
    named = str(component.get("purl", "")).partition(":")[2].partition("/")[0]
    return named or ("wheel" if "group" in component else "pypi")


def licences(component: Component, policy: Policy) -> list[str]:
    """Return a component's licences as SPDX expressions or names; empty: unknown.

    Several are all to be kept, since metadata do not say whether one may choose.
    """
    if kind(component) == "wheel":
        return _bundled(f"{component['group']}/{component['name']}", policy)
    key = f"{kind(component)}/{component['name']}".lower()
    if key in policy.stated:
        return [policy.stated[key]]
    found = []
    for entry in component.get("licenses", ()):
        licence = entry.get("license", {})
        name = entry.get("expression") or licence.get("id") or licence.get("name", "")
        found.append(policy.names.get(name, name))
    stated = [name for name in found if not name.startswith(CLASSIFIER)]
    return sorted(set(stated or found) - {""})


def _bundled(name: str, policy: Policy) -> list[str]:
    library = name.rpartition("/")[2]
    for pattern, licence in sorted(policy.bundled.items(), key=lambda item: (-item[0].count("/"), -len(item[0]))):
        mine = name if "/" in pattern else library
        if mine == pattern or (pattern.endswith("*") and mine.startswith(pattern[:-1])):
            return [licence]
    return []


def fault(component: Component, policy: Policy) -> str:
    """Return why a component may not be shipped; empty: it may."""
    found = licences(component, policy)
    label = f"{component.get('group', kind(component))}/{component['name']} {component.get('version', '')}".strip()
    if not found:
        return f"{label}: its licence is unknown"
    for licence in found:
        if any(part in licence.lower() for part in policy.forbidden):
            return f"{label}: {licence} is forbidden"
        if kind(component) != "deb" and not _allowed(licence, policy):
            return f"{label}: {licence} is not in the list of allowed licences"
    return ""


def _allowed(licence: str, policy: Policy) -> bool:
    """Whether an SPDX expression can be met with allowed licences."""
    try:
        return _met(_SPDX.parse(licence), policy)
    except Exception:  # the library's errors have no common ancestor of their own
        return licence in policy.allowed


def _met(expression: LicenseExpression, policy: Policy) -> bool:
    if expression.__class__.__name__ in ("AND", "OR"):
        each = [_met(part, policy) for part in expression.args]
        return any(each) if expression.__class__.__name__ == "OR" else all(each)
    return str(expression) in policy.allowed


def table(components: Iterable[Component], policy: Policy) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = {
        (KINDS.get(kind(c), kind(c)), f"{c.get('group', '')}/{c['name']}".strip("/"), str(c.get("version", "")),
         ", ".join(licences(c, policy)) or "unknown")
        for c in components
    }  # fmt: skip
    lines = [f"| {' | '.join(row)} |" for row in sorted(rows, key=lambda row: (row[0], row[1].lower(), row))]
    return ["| kind | name | version | licences |", "|---|---|---|---|", *lines]


def main(policy_file: Path, documents: list[Path]) -> int:
    """Write each document's table; return 1 if something may not be shipped."""
    policy, faults = load(policy_file), []
    for document in documents:
        components = json.loads(document.read_text(encoding="utf-8"))["components"]
        image = document.name.removesuffix(".cdx.json")
        target = document.with_name(f"{image}-licences.md")
        target.write_text("\n".join([f"# hams:{image}", "", *table(components, policy), ""]), encoding="utf-8")
        faults += [f"{image}: {text}" for component in components if (text := fault(component, policy))]
        sys.stdout.write(f"{image}: {len(components)} components; {target}\n")
    sys.stdout.writelines(f"{text}\n" for text in faults)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
