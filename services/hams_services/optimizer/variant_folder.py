"""Variants on disk: FOLDER/DIGEST/ holds a network's files, ``model.xml`` and so on, and its ``record.json``.

FOLDER/searches/KEY.json is there for each search that ended: a trial that it would have removed may lie there, too.

Files are written whole or not at all and named by their content; a record counts only where its files are there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from hams_services.models.files import staged
from hams_shared.errors import BadInputError, DigestError
from hams_shared.wire.messages.base import Wire, WireError
from hams_shared.wire.variants import Agreement, Made, VariantRecord, model_ref

log = logging.getLogger("hams.optimizer")

RECORD = "record.json"


class SearchRecord(Wire):
    """What a search has kept."""

    kept: tuple[str, ...]
    """Digests of variants, the main one first."""
    cut_after_s: float | None
    """The time that it had, where that was too short to end it, s."""


class VariantStore:
    """Variants below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, files: Iterable[Path], made: Made) -> VariantRecord:
        """Store files. Where they are there already their record stays: another setting led to the same network."""
        contents = [(path.suffix.lower(), path.read_bytes()) for path in files]
        record = VariantRecord(model=model_ref(name, contents), made=made)
        folder = self.folder / record.model.digest
        for (suffix, content), part in zip(contents, record.model.parts, strict=True):
            if _digest(folder / f"model{suffix}") == part.digest:
                continue
            with staged(folder / f"model{suffix}") as target:
                target.write(content)
        try:
            return self.get(record.model.digest)
        except BadInputError:
            self.put(record)
            return record

    def put(self, record: VariantRecord) -> None:
        """Write a record."""
        text = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True)
        with staged(self.folder / record.model.digest / RECORD) as target:
            target.write(text.encode())

    def get(self, digest: str) -> VariantRecord:
        """Return a record. Raises BadInputError when there is none, or it is damaged."""
        path = self.folder / digest / RECORD
        try:
            return VariantRecord.model_validate_json(path.read_bytes())
        except OSError:
            raise BadInputError(f"there is no variant {digest[:12]}…", "hams-ctl nco variants") from None
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            hint = "remove its folder; the variant is then made again"
            raise BadInputError(f"{path} cannot be used: {why}", hint) from None

    def remove(self, record: VariantRecord) -> None:
        """Remove a variant."""
        shutil.rmtree(self.folder / record.model.digest, ignore_errors=True)

    def path(self, record: VariantRecord) -> Path:
        """Return the main file. Raises DigestError when a file has another digest than in the record."""
        folder = self.folder / record.model.digest
        for part in record.model.parts:
            path = folder / f"model{part.suffix}"
            found = _digest(path)
            if found != part.digest:
                raise DigestError(f"{path} has {found[:12]}, not {part.digest[:12]}…", "remove its folder")
        return folder / f"model{record.model.parts[0].suffix}"

    def all(self) -> list[VariantRecord]:
        """Return all records that can be read."""
        found: list[VariantRecord] = []
        for path in sorted(self.folder.glob(f"*/{RECORD}")):
            try:
                found.append(self.get(path.parent.name))
            except BadInputError as error:
                log.warning("a variant is ignored: %s", error)
        return found

    def of(self, source_digest: str) -> list[VariantRecord]:
        """Return the variants made from a source."""
        return [record for record in self.all() if record.made.source_digest == source_digest]

    def measured(self, record: VariantRecord, key: str, agreement: Agreement) -> VariantRecord:
        """Note an agreement."""
        fresh = self.get(record.model.digest)
        failed = {known: why for known, why in fresh.failed.items() if known != key}
        changed = fresh.model_copy(update={"agreements": {**fresh.agreements, key: agreement}, "failed": failed})
        self.put(changed)
        return changed

    def failed(self, record: VariantRecord, key: str, error: WireError) -> VariantRecord:
        """Note that a variant could not be measured."""
        fresh = self.get(record.model.digest)
        changed = fresh.model_copy(update={"failed": {**fresh.failed, key: error}})
        self.put(changed)
        return changed

    def put_search(self, key: str, kept: Sequence[VariantRecord], cut_after_s: float | None) -> None:
        """Note the end of a search; `key` stands for all that its result depends on."""
        found = SearchRecord(kept=tuple(one.model.digest for one in kept), cut_after_s=cut_after_s)
        with staged(self._search(key)) as target:
            target.write(found.model_dump_json().encode())

    def search(self, key: str) -> SearchRecord | None:
        """Return what came of a search; None: it was not made, or did not end."""
        try:
            return SearchRecord.model_validate_json(self._search(key).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            log.warning("%s is ignored, and the search is made again: %s", self._search(key), error.errors()[0]["msg"])
            return None

    def _search(self, key: str) -> Path:
        return self.folder / "searches" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "nothing"
