"""Names of inboxes: who has got one request must not be able to answer the next."""

from __future__ import annotations

from hams_shared.bus.nats.tls import TlsClient


def test_names_of_inboxes_do_not_follow_one_another() -> None:
    client = TlsClient()
    names = [client.new_inbox().rpartition(".")[2] for _ in range(2000)]
    assert {len(name) for name in names} == {22}
    assert len({name[:12] for name in names}) == 2000  # names that count up have these in common
