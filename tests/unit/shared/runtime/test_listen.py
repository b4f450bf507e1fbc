"""Sockets of parts that serve HTTP."""

from __future__ import annotations

import socket

import pytest

from hams_shared.errors import BadInputError
from hams_shared.runtime.listen import listening


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_answers_do_not_wait_for_an_acknowledgement(host: str) -> None:
    with listening(host, 0) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getblocking()
        assert sock.getsockname()[1] > 0


@pytest.mark.parametrize("dual_stack", [False, True])
def test_all_addresses_of_both_families_only_where_it_is_asked_for(dual_stack: bool) -> None:
    with listening("::", 0, dual_stack=dual_stack) as sock, socket.socket() as client:
        client.settimeout(5)
        assert (client.connect_ex(("127.0.0.1", sock.getsockname()[1])) == 0) is dual_stack


def test_the_option_is_named() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            BadInputError, match=rf"--http: cannot listen on 127.0.0.1:{port}: .*choose another by --http"
        ):
            listening("127.0.0.1", port, option="--http")
