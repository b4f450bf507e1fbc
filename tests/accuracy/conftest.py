"""Networks of the example groups, loaded once for all tests of a process."""

from __future__ import annotations

import pytest

from accuracy.cases import CASES
from accuracy.group import Load, Networks
from support.zoo import real


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Return what loads a group's networks by the group's name, or skips the test where its files are not."""
    loaded: dict[str, Networks] = {}

    def networks(name: str) -> Networks:
        case = CASES[name]
        if absent := case.absent():
            pytest.skip(f"there is no {absent} (Open Model Zoo, not part of the repository)")
        if name not in loaded:
            spec = case.spec()
            for source, digest in [(n.model, n.digest) for n in spec.nodes.values()] + [
                (s.source, None) for s in spec.streams.values()
            ]:
                real(source, digest)
            loaded[name] = Networks(spec, tmp_path_factory.mktemp(name))
        return loaded[name]

    return networks
