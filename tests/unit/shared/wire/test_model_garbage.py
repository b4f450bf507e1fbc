"""Which model files are deleted, and when."""

from __future__ import annotations

import hashlib

from hams_shared.wire import codec
from hams_shared.wire.messages.group import ModelPart, ModelRef
from hams_shared.wire.model_garbage import GRACE_S, Unused, mentioned


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_digests_are_found_wherever_they_are() -> None:
    xml, weights, both = (digest(text) for text in ("xml", "weights", "both"))
    parts = (ModelPart(suffix=".xml", digest=xml, size=1), ModelPart(suffix=".bin", digest=weights, size=2))
    record = codec.encode(ModelRef(name="m", digest=both, parts=parts))
    key = f"{digest('source')}.{digest('variant')}".encode()
    assert mentioned([record, key]) == {xml, weights, both, digest("source"), digest("variant")}
    assert mentioned([b"", b"a" * 63, b"a" * 65, b"g" * 64]) == frozenset()


def test_a_file_is_garbage_once_it_was_without_use_for_the_whole_time() -> None:
    unused = Unused()
    assert unused.garbage(["a", "b"], ["a"], 0.0) == ()
    assert unused.garbage(["a", "b"], ["a"], GRACE_S - 1) == ()
    assert unused.garbage(["a", "b"], ["a"], GRACE_S) == ("b",)


def test_use_in_between_begins_anew() -> None:
    unused = Unused()
    unused.garbage(["a"], [], 0.0)
    assert unused.garbage(["a"], ["a"], GRACE_S - 1) == ()
    assert unused.garbage(["a"], [], GRACE_S) == ()
    assert unused.garbage(["a"], [], 2 * GRACE_S) == ("a",)


def test_a_file_that_was_gone_and_came_again_begins_anew() -> None:
    unused = Unused()
    unused.garbage(["a"], [], 0.0)
    assert unused.garbage([], [], GRACE_S) == ()
    assert unused.garbage(["a"], [], GRACE_S) == ()
    assert unused.garbage(["a"], [], 2 * GRACE_S) == ("a",)
