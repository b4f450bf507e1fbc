"""The zoo's manifests: each names a network's files, their digests, its input, and the tasks of its outputs.

One YAML file per network lies in ``manifests/``. ``NAME[/HEAD][@VARIANT]`` names a network: a head is one of its
outputs with its task, a variant the precision of its weights; without a variant, the first one is meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from hams_shared.errors import BadInputError
from hams_shared.group.findings import Strict, describe_all
from hams_shared.group.node_spec import CropSpec, InputSpec, Name, Sha256, Sha384, TaskSpec

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]*[a-z0-9]$")]
Variant = Literal["FP32", "FP16", "INT8"]
Service = Literal["F", "P", "V"]
SERVICES: dict[Service, str] = {"F": "faces", "P": "persons", "V": "vehicles"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML has it: ten times as fast."""
_REFERENCE = re.compile(r"^(?P<name>[^/@]*)(?:/(?P<head>[^/@]*))?(?:@(?P<variant>[^/@]*))?$")


class File(Strict):
    """One file of a network."""

    source: Annotated[str, StringConstraints(pattern=r"^(pypi:|https://)")]
    size: int = Field(gt=0, description="bytes")
    sha256: Sha256 | None = None
    sha384: Sha384 | None = None

    @model_validator(mode="after")
    def _one_digest(self) -> File:
        if (self.sha256 is None) == (self.sha384 is None):
            raise ValueError("give either sha256 or sha384")
        return self

    @property
    def digest(self) -> str:
        """Its digest, hex: a SHA-256 or a SHA-384, by its length."""
        return self.sha256 or self.sha384 or ""

    @property
    def kind(self) -> str:
        """Scheme of its source."""
        return self.source.partition(":")[0]

    @property
    def name(self) -> str:
        """File name, without a folder."""
        path = self.source if self.kind == "pypi" else unquote(urlsplit(self.source).path)
        return PurePosixPath(path).name


class Head(Strict):
    """One task of a network, with the outputs that it needs."""

    task: TaskSpec
    outputs: tuple[str, ...] = Field((), description="cut the network at these tensors")


class Manifest(Strict):
    """A network of the zoo."""

    name: ModelName
    what: str = Field(min_length=1, max_length=100, description="what it finds or predicts, in a few words")
    service: Service
    licence: str = Field(min_length=1, description="SPDX id, or the publisher's own words")
    home: Annotated[str, StringConstraints(pattern=r"^https://")]
    note: str = Field("", description="what a user has to know")
    variants: dict[Variant, tuple[File, ...]] = Field(min_length=1)
    input: InputSpec
    crop: CropSpec | None = Field(None, description="of its parent's objects; none: it takes whole frames")
    heads: dict[Name, Head] = Field(min_length=1, description="by name; the only one is called `all`")

    @model_validator(mode="before")
    @classmethod
    def _one_head(cls, data: Any) -> Any:
        """`task` and `outputs` at the top level belong to the only head."""
        if isinstance(data, dict) and "task" in data and "heads" not in data:
            data = dict(data)
            data["heads"] = {"all": {key: data.pop(key) for key in ("task", "outputs") if key in data}}
        return data

    @model_validator(mode="after")
    def _files_fit(self) -> Manifest:
        for variant, found in self.variants.items():
            names = [PurePosixPath(file.name) for file in found]
            if names and names[0].suffix == ".xml":
                if names[1:] != [names[0].with_suffix(".bin")]:
                    raise ValueError(f"{variant}: after an .xml comes its .bin")
            elif len(names) != 1:
                raise ValueError(f"{variant}: one file, or an .xml and its .bin")
        return self

    @property
    def variant(self) -> Variant:
        """The default variant: the first one."""
        return next(iter(self.variants))

    def size(self, variant: Variant) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.variants[variant])


@dataclass(frozen=True)
class ZooEntry:
    """The network, variant and head that a reference names."""

    manifest: Manifest
    variant: Variant
    head: str | None
    """None: the network has several, and none was named."""

    @property
    def files(self) -> tuple[File, ...]:
        """Its files, the main one first."""
        return self.manifest.variants[self.variant]

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.manifest.name}@{self.variant}" if len(self.manifest.variants) > 1 else self.manifest.name

    def source(self) -> tuple[str, dict[str, str]]:
        """Return `model` and the digest as a node has them."""
        main = self.files[0]
        fragment = f"#weights={self.files[1].digest}" if len(self.files) > 1 else ""
        return main.source + fragment, {"sha256" if main.sha256 else "sha384": main.digest}


def find_entry(reference: str, manifests: Mapping[str, Manifest]) -> ZooEntry:
    """Return the entry that ``NAME[/HEAD][@VARIANT]`` names.

    Raises:
        BadInputError: there is no such network, head or variant; the hint names similar ones.
    """
    match = _REFERENCE.match(reference.removeprefix("zoo:"))
    if match is None:
        raise BadInputError(f"{reference!r} is not NAME[/HEAD][@VARIANT]", "see `hams-ctl models list`")
    name, head, variant = match.group("name"), match.group("head"), match.group("variant")
    if name not in manifests:
        raise BadInputError(f"the zoo has no network {name!r}", _similar(name, manifests))
    manifest = manifests[name]
    if head is not None and (head not in manifest.heads or len(manifest.heads) == 1):
        known = manifest.heads if len(manifest.heads) > 1 else {}
        hint = _similar(head, known, "heads") if known else "it has one task only: leave out the / and what follows"
        raise BadInputError(f"{name} has no head {head!r}", hint)
    if head is None and len(manifest.heads) == 1:
        head = next(iter(manifest.heads))
    chosen: Variant = manifest.variant
    if variant is not None:
        found = [known for known in manifest.variants if known.lower() == variant.lower()]
        if not found:
            raise BadInputError(f"{name} has no variant {variant!r}", _similar(variant, manifest.variants, "variants"))
        chosen = found[0]
    return ZooEntry(manifest, chosen, head)


def names_of(known: str) -> list[str]:
    """Return what nodes write for ``NAME[@VARIANT]``: a name for each head. Raises as :func:`find_entry`."""
    name, at, variant = known.partition("@")
    heads = find_entry(known, zoo()).manifest.heads
    return [f"zoo:{name}{f'/{head}' if len(heads) > 1 else ''}{at}{variant}" for head in heads]


def _similar(name: str, known: Iterable[str], what: str = "") -> str:
    """Return a hint: similar names; without any, all of a few."""
    names = list(known)
    by_lower = {each.lower(): each for each in names}
    similar = [each for each in by_lower if len(name) > 2 and name.lower() in each][:3]
    similar = similar or difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.55)
    if similar:
        return f"did you mean {' or '.join(by_lower[each] for each in similar)}?"
    return f"its {what}: {', '.join(names)}" if what else "`hams-ctl models list` shows all"


def parse_manifest(text: str, origin: str) -> Manifest:
    """Check one manifest. Raises BadInputError, naming every wrong key."""
    try:
        return Manifest.model_validate(yaml.load(text, _LOADER))
    except yaml.YAMLError as error:
        raise BadInputError(f"{origin}: not YAML: {error}") from None
    except ValidationError as error:
        raise BadInputError(f"{origin}: {describe_all(error.errors(include_url=False), 'group', Manifest)}") from None


@cache
def zoo() -> Mapping[str, Manifest]:
    """Return all networks by name, ordered by service and name. Raises BadInputError: the installation is damaged."""
    found: list[Manifest] = []
    for entry in files("hams_services.models").joinpath("manifests").iterdir():
        if entry.name.endswith(".yaml"):
            manifest = parse_manifest(entry.read_text(encoding="utf-8"), entry.name)
            if entry.name != f"{manifest.name}.yaml":
                raise BadInputError(f"{entry.name} holds the manifest of {manifest.name}")
            found.append(manifest)
    return {each.name: each for each in sorted(found, key=lambda each: (each.service, each.name))}
