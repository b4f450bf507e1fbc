"""The broker's address and login: what is taken, and what is refused without repeating a secret."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from hams_services.sinks.mqtt.link import CLIENT_ID, Broker, broker_of, client_id
from hams_services.sinks.mqtt.topics import Topics
from hams_shared.errors import BadInputError, CredentialsError

LOGIN = {"HAMS_MQTT_USER": "hams", "HAMS_MQTT_PASSWORD": "s3cret"}


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("mqtt://box", "mqtt://box:1883"),
        ("mqtt://127.0.0.1:1884/", "mqtt://127.0.0.1:1884"),
        ("mqtts://box", "mqtts://box:8883"),
        ("mqtt://[::1]", "mqtt://[::1]:1883"),
    ],
)
def test_addresses(url: str, where: str) -> None:
    assert broker_of(url, {}).where == where


@pytest.mark.parametrize(
    "url",
    ["", "box", "box:1883", "http://box", "mqtt://", "mqtt://box:x", "mqtt://box:99999", "mqtt://box/topic",
     "mqtt://a..b", "mqtt://user:s3cret@box", "mqtt://[::1"],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(BadInputError) as caught:
        broker_of(url, {})
    assert "s3cret" not in str(caught.value)


def test_a_password_is_in_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("from a file\n")
    assert broker_of("mqtt://box", LOGIN).password == "s3cret"
    assert broker_of("mqtt://box", LOGIN, password_file=file).password == "from a file"
    assert broker_of("mqtt://box", LOGIN | {"HAMS_MQTT_PASSWORD_FILE": str(file)}).password == "from a file"
    empty = dict.fromkeys(LOGIN, "")  # as compose gives variables that are not set
    assert broker_of("mqtt://box", empty | {"HAMS_MQTT_PASSWORD_FILE": ""}) == Broker("box", 1883)
    assert "s3cret" not in repr(broker_of("mqtt://box", LOGIN))
    with pytest.raises(BadInputError, match="no user"):
        broker_of("mqtt://box", {"HAMS_MQTT_PASSWORD": "s3cret"})
    file.write_text("\n")
    with pytest.raises(CredentialsError, match="is empty"):
        broker_of("mqtt://box", LOGIN, password_file=file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(CredentialsError, match="not a text file"):
        broker_of("mqtt://box", LOGIN, password_file=file)


def test_a_password_in_clear_text_is_noticed() -> None:
    assert broker_of("mqtt://box", LOGIN).exposed
    assert not broker_of("mqtt://127.0.0.1", LOGIN).exposed
    assert not broker_of("mqtts://box", LOGIN).exposed
    assert not broker_of("mqtt://box", {}).exposed


def test_files_of_tls(tmp_path: Path) -> None:
    plain = broker_of("mqtts://box", {}).tls
    assert plain is not None
    assert (plain.verify_mode, plain.check_hostname) == (ssl.CERT_REQUIRED, True)
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for files in ({"ca": wrong}, {"cert": wrong}, {"cert": wrong, "key": wrong}):
        with pytest.raises(CredentialsError, match=r"cannot use .*wrong\.pem for TLS"):
            broker_of("mqtts://box", {}, **files)
    with pytest.raises(BadInputError, match="--key needs --cert"):
        broker_of("mqtts://box", {}, key=wrong)
    with pytest.raises(BadInputError, match="write mqtts://"):
        broker_of("mqtt://box", {}, ca=wrong)


def test_bridges_with_different_base_topics_are_different_clients() -> None:
    """Of two with the same id, the broker ends the first one's connection whenever the second connects."""
    bases = ["hams-building-north-1", "hams-building-north-2", "home/building1/cameras-a", "home/building1/cameras-b",
             "home/hams", "home_hams", "x" * 200, "x" * 199]  # fmt: skip
    found = {base: client_id(Topics(base)) for base in bases}
    assert len(set(found.values())) == len(bases)
    for base, id in found.items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", id)
        assert len(id) <= CLIENT_ID
        assert id == client_id(Topics(base))  # of each start: it ends a connection that hangs
    assert [client_id(Topics(base)) for base in ("hams", "home/hams", "x" * 18)] == [
        "hams-hams", "hams-home_hams", "hams-" + "x" * 18,
    ]  # fmt: skip
