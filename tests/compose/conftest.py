from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from compose.docker import Docker, ImpossibleError, Project
from support.ports import free_port
from support.up import ROOT


def has(room: str) -> bool:
    """Whether `hams_services` has a room: services of compose files that it makes are tested only then."""
    return find_spec(f"hams_services.{room}") is not None


@pytest.hookimpl(tryfirst=True)  # before `-m` takes its choice
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for number, item in enumerate(one for one in items if Path(__file__).parent in one.path.parents):
        item.add_marker(pytest.mark.timeout(900 if number else 1800))  # building images is in the first
        item.add_marker(pytest.mark.system)
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Docker with HAMS's images built. Skips, saying why, where that is impossible."""
    if os.environ.get("HAMS_COMPOSE_TEST") != "1":
        pytest.skip("COMPOSE IS NOT TESTED HERE: `make test-all` does it (HAMS_COMPOSE_TEST=1: it may install Docker)")
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("COMPOSE IS NOT TESTED HERE: it takes root on Linux")
    try:
        running = Docker(tmp_path_factory.mktemp("docker")).__enter__()
    except ImpossibleError as error:
        pytest.skip(f"COMPOSE IS NOT TESTED HERE: {error}")
    try:
        try:
            running.stand_ins()
        except ImpossibleError as error:
            pytest.skip(f"COMPOSE IS NOT TESTED HERE: no base images: {error}")
        for target in ("runtime", "optimizer", "demo"):
            running.build(target, f"hams-test:{target}")
        yield running
    finally:
        running.__exit__()


@pytest.fixture(scope="session")
def address(docker: Docker) -> tuple[str, str]:
    """Where the broker is published: an address that containers of another project reach, too."""
    host = docker.gateway()
    return host, str(free_port(host=host))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of docker-compose.yml: it has folders for a user's own files, still empty."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("groups", "models", "media"):
        (folder / name).mkdir()
    shutil.copytree(ROOT / "deploy/prometheus", folder / "deploy/prometheus")
    return folder


@pytest.fixture(scope="session")
def secrets(site: Path, address: tuple[str, str]) -> Path:
    """What `hams-ctl init` writes for two boxes, readable by the containers' user."""
    folder = site / "secrets"
    init = [sys.executable, "-m", "hams_services.ctl", "init", "--dir", str(folder)]
    subprocess.run([*init, "--host", "nats", "--host", address[0], "--box", "box", "--box", "box2"], check=True)
    for file in folder.glob("*.creds"):
        os.chown(file, 10001, 10001)
    return folder


@pytest.fixture(scope="session")
def ports(address: tuple[str, str]) -> dict[str, str]:
    """Free ports for what optional services publish, and for an MQTT broker, at the broker's address."""
    names = ("WEB", "HTTP", "GRPC", "PROMETHEUS", "MQTT")
    first = free_port(len(names) - 1, host=address[0])
    return {name: str(first + number) for number, name in enumerate(names)}


@pytest.fixture(scope="session")
def box(
    docker: Docker, address: tuple[str, str], ports: dict[str, str], site: Path, secrets: Path
) -> Iterator[Project]:
    """The first box, up, everything healthy; with no camera, and no files but the secrets."""
    host, port = address
    with Project(
        docker, "hams-test", "docker-compose.yml", site, HAMS_IMAGE="hams-test", HAMS_BIND=host, HAMS_PORT=port,
        HAMS_SCHEDULERS="2", HAMS_MQTT_URL=f"mqtt://{host}:{ports['MQTT']}",
        **{f"HAMS_{name}_PORT": port for name, port in ports.items()},
    ) as project:  # fmt: skip
        left_out = () if has("web") else ("--scale", "web=0")
        project("up", "--detach", "--no-build", "--wait", "--wait-timeout", "450", *left_out)
        yield project


@pytest.fixture(scope="session")
def second_box(docker: Docker, address: tuple[str, str], secrets: Path) -> Iterator[Project]:
    """Another box's devices, joined."""
    url = f"nats://{address[0]}:{address[1]}"
    with Project(
        docker, "hams-test-2", "docker-compose.agent.yml", HAMS_IMAGE="hams-test", HAMS_NATS_URL=url, HAMS_HOST="box2",
        HAMS_SECRETS=str(secrets),
    ) as project:  # fmt: skip
        project("up", "--detach", "--no-build", "--wait", "--wait-timeout", "450")
        yield project
