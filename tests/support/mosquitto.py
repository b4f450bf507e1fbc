"""A real MQTT broker: Debian's mosquitto, with a client that remembers what the broker retains.

``Watcher`` is a client that hears everything. Without mosquitto tests skip, and say how to install it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from support.ports import free_port
from support.wait import until_sync

BINARY = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def installed() -> str:
    """Return the path of mosquitto; skip the test where it is not installed."""
    if BINARY is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    return BINARY


def password_file(folder: Path, user: str, password: str) -> Path:
    """Make a file of one user for mosquitto; skip the test where it is not installed."""
    installed()
    path = folder / "passwords"
    path.write_text(f"{user}:{password}\n")
    path.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", path], check=True)
    return path


NEVER = ("mark", "event")
"""Last levels of the topics that are never retained."""


@dataclass
class Mosquitto:
    """A broker on the loopback; `lines` are added to its configuration."""

    folder: Path
    lines: tuple[str, ...] = ("allow_anonymous true",)
    persistence: bool = True
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        store = ("persistence true", f"persistence_location {self.folder}/") if self.persistence else ()
        user = ("user root",) if os.getuid() == 0 else ()
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join((f"listener {self.port} 127.0.0.1", *store, *user, *self.lines, "")))
        with (self.folder / "mosquitto.out").open("ab") as out:
            self.process = subprocess.Popen([installed(), "-c", str(config)], stdout=out, stderr=out)
        until_sync(self._listens, 20, "mosquitto")

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(30)
            self.process = None

    def log(self) -> str:
        return (self.folder / "mosquitto.out").read_text()

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0


class Watcher:
    """A client as Home Assistant is one: it subscribes to everything, and comes back after a loss."""

    def __init__(self, broker: Mosquitto) -> None:
        self.retained: dict[str, bytes] = {}
        """What the broker retains, by topic, as far as it was heard."""
        self.heard: list[tuple[str, bytes, bool]] = []
        """All messages: topic, payload, and whether it was retained before."""
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"watcher-{os.urandom(4).hex()}", clean_session=False)
        subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert subscribed.wait(60)

    def _take(self, message: paho.MQTTMessage) -> None:
        self.heard.append((message.topic, message.payload, bool(message.retain)))
        if message.topic.rpartition("/")[2] in NEVER:
            return
        if message.payload:
            self.retained[message.topic] = message.payload
        else:
            self.retained.pop(message.topic, None)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(30)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def retained_by(broker: Mosquitto) -> dict[str, bytes]:
    """What a client that comes new gets: what the broker really retains."""
    watcher = Watcher(broker)
    try:
        nonce = os.urandom(8)
        watcher.publish("mark", nonce)
        until_sync(lambda: ("mark", nonce, False) in watcher.heard, 20, "all that the broker retains")
        return watcher.retained
    finally:
        watcher.close()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path / "mosquitto")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop(kill=True)
