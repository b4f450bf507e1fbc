"""Who may read and change what on the broker, by the rules that nats-server is given."""

from __future__ import annotations

import pytest

from hams_services.security.roles import Role, permissions, roles
from hams_shared.bus.memory.store import matches
from hams_shared.wire import subjects

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


@pytest.mark.parametrize("user", [user for user in ROLES if user not in ("admin", "pipeline", "leaf-shop")])
def test_only_admin_and_pipeline_read_or_change_earlier_versions_of_groups(user: str) -> None:
    bucket = subjects.bucket(subjects.VERSIONS)
    asked = (f"$KV.{bucket}.face.3", f"$JS.API.STREAM.MSG.GET.KV_{bucket}", f"$JS.API.CONSUMER.CREATE.KV_{bucket}.x.y")
    refused = asked[:1] if user == "scheduler" else asked  # which reads what model files they need
    assert not [subject for subject in refused if may(ROLES[user], subject)]
    assert all(may(ROLES[one], subject) for one in ("admin", "pipeline") for subject in asked)  # by candidates' rules


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


def test_who_tells_the_history_and_who_reads_it() -> None:
    tells = {user for user, role in ROLES.items() if user != "admin" and may(role, f"hams.v1.history.{user}")}
    assert tells == {"scheduler", "optimizer"}
    asks = {user for user, role in ROLES.items() if may(role, "hams.v1.history-after")}
    assert asks == {"admin", "dashboard", "leaf-shop"}
    hears = {
        user for user, role in ROLES.items() if any(matches(s, "hams.v1.history.scheduler") for s in role.subscribe)
    }
    assert hears == {"admin", "dashboard", "scheduler", "leaf-shop"}
    for user in ("scheduler", "optimizer"):
        assert may(ROLES[user], "$JS.API.STREAM.CREATE.hams-history")
        assert not may(ROLES[user], "$JS.API.STREAM.PURGE.hams-history")


def test_only_the_admin_tells_the_audit_and_reads_it() -> None:
    entry = "hams.v1.audit.deploy.admin"
    writes = {user for user, role in ROLES.items() if may(role, entry)}
    assert writes == {"admin", "leaf-shop"}  # a leaf forwards its admin's
    assert not may(ROLES["leaf-shop"], "hams.v1.audit.deploy.pipeline")
    hears = {user for user, role in ROLES.items() if any(matches(one, entry) for one in role.subscribe)}
    reads = {user for user, role in ROLES.items() if may(role, "$JS.API.STREAM.MSG.GET.hams-audit")}
    assert (hears, reads) == ({"admin"}, {"admin"})


def test_nobody_takes_anything_out_of_the_audit() -> None:
    admin = permissions(ROLES["admin"], "U" * 56)
    for verb in ("UPDATE", "DELETE", "PURGE", "MSG.DELETE", "RESTORE"):
        for api in ("$JS.API", "$JS.hams.API"):
            subject = f"{api}.STREAM.{verb}.hams-audit"
            assert f'"{subject}"' in admin
            assert {user for user, role in ROLES.items() if may(role, subject)} == {"admin"}  # who is denied it


def test_who_may_answer_whom_at_any_time() -> None:
    inboxes = {user: f"_INBOX_{user}.request.token" for user in ROLES}
    answers = {user: {to for to, one in inboxes.items() if may(role, one)} for user, role in ROLES.items()}
    apps = {"pipeline": {"app"}, "agent-box": {"scheduler"}, "admin": set(ROLES), "leaf-shop": {*ROLES} - {"leaf-shop"}}
    assert {user: found for user, found in answers.items() if found} == apps


def test_an_agent_cannot_send_the_scheduler_records_of_buckets() -> None:
    assert not may(ROLES["agent-box"], "_INBOX_scheduler.watch")
