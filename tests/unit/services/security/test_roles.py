"""Who may read and change what on the broker, by the rules that nats-server is given."""

from __future__ import annotations

import pytest

from hams_services.security.roles import Role, roles
from hams_shared.bus.memory.store import matches

ROLES = {role.user: role for role in roles(["box"], ["shop"])}
GALLERY = "$KV.hams-galleries.face.who.0123456789abcdef.0"
READS = (
    "$JS.API.STREAM.MSG.GET.KV_hams-galleries",
    "$JS.API.CONSUMER.CREATE.KV_hams-galleries.x.$KV.hams-galleries.>",
    "$JS.API.DIRECT.GET.KV_hams-galleries",
)
REQUEST = "hams.v1.pipeline.gallery.face"


def may(role: Role, subject: str) -> bool:
    return any(matches(allowed, subject) for allowed in role.publish)


@pytest.mark.parametrize("user", ["scheduler", "optimizer", "app", "dashboard", "agent-box"])
def test_only_pipeline_and_admin_read_or_change_galleries(user: str) -> None:
    role = ROLES[user]
    assert not [subject for subject in (GALLERY, *READS, REQUEST) if may(role, subject)]
    for subject in (GALLERY, REQUEST):
        assert not any(matches(allowed, subject) for allowed in role.subscribe)


def test_the_pipeline_keeps_galleries_and_answers_requests_about_them() -> None:
    role = ROLES["pipeline"]
    assert [may(role, subject) for subject in (GALLERY, *READS)] == [True, True, True, False]
    assert any(matches(allowed, REQUEST) for allowed in role.subscribe)
    assert not may(role, "$JS.API.STREAM.PURGE.KV_hams-galleries")
    assert not may(role, "$JS.API.STREAM.DELETE.KV_hams-galleries")
    assert may(ROLES["admin"], REQUEST)
    assert may(ROLES["admin"], GALLERY)


def test_a_leaf_forwards_what_its_pipeline_needs() -> None:
    leaf = ROLES["leaf-shop"]
    assert may(leaf, "$JS.hams.API.$KV.hams-galleries.face.who.0.head")
