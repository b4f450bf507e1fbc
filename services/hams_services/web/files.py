"""The files of this host that group files of the page may name: those below the folders it was started with.

Whoever writes a group file on the page must not read other files through it, neither by ``..`` nor by a link. What is
outside and what does not exist get the same answer, so that nobody learns what there is.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hams_shared.errors import GroupSpecError
from hams_shared.group.camera_url import redacted

SHOWN = 500
"""Most files that the page lists."""
CHECKED = 10_000
"""Most entries of a folder or pattern."""
_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Files:
    """The folders, absolute and without links; none: group files name no files."""

    folders: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folders: Iterable[Path]) -> Files:
        """Return those folders."""
        return cls(tuple(folder.resolve() for folder in folders))

    def find(self, name: str, known: frozenset[str] = frozenset()) -> Path:
        """Return the absolute path of a file, folder or pattern; `known` paths are of the group as it is deployed.

        A relative name is looked for beside and in each folder: ``media/a.mp4`` and ``a.mp4`` are the same.

        Raises:
            GroupSpecError: it is outside, or does not exist.
        """
        if name in known:
            return Path(name)
        for path in self._candidates(name):
            if self._inside(path) and (os.path.exists(path) or self._matches(path)):  # a name may be too long
                return path
        where = ", ".join(folder.name for folder in self.folders)
        hint = f"the page may use files of {where}" if where else "hams-web was started without --files"
        raise GroupSpecError(f"{redacted(name)[:200]!r} is no file that this page may use", hint)

    def listed(self) -> list[str]:
        """Return names of the files, as group files may have them."""
        found: list[str] = []
        for folder in self.folders:
            for parent, folders, names in os.walk(folder):
                folders.sort()
                found += [str((Path(parent) / name).relative_to(folder.parent)) for name in sorted(names)]
                if len(found) >= SHOWN:
                    return found[:SHOWN]
        return found

    def _candidates(self, name: str) -> Iterable[Path]:
        if "\0" in name or name.startswith("~"):
            return
        places = [Path("/")] if os.path.isabs(name) else [*(f.parent for f in self.folders), *self.folders]
        for place in places:
            yield _resolved(place / name)

    def _inside(self, path: Path) -> bool:
        return any(path == folder or folder in path.parents for folder in self.folders)

    def _matches(self, path: Path) -> bool:
        """Whether a pattern has matches; all of them have to be inside, wherever links lead."""
        if not _WILD.intersection(path.name):
            return False
        found = glob.glob(str(path))[:CHECKED]
        return bool(found) and all(self._inside(Path(one).resolve()) for one in found)

    def leads_out(self, path: Path) -> bool:
        """Whether a folder has an entry that is a link to the outside."""
        if not path.is_dir():
            return False
        entries = [entry for entry, _ in zip(path.iterdir(), range(CHECKED), strict=False)]
        return any(not self._inside(entry.resolve()) for entry in entries)


def _resolved(path: Path) -> Path:
    """Follow all links; of a pattern, those of its folder."""
    return path.parent.resolve() / path.name if _WILD.intersection(path.name) else path.resolve()
