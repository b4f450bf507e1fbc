"""Files over https, checked against the SHA-256 the group file promises."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from hams_services.zoo.files import MAX_BYTES, Progress, cached, copy
from hams_shared.errors import DigestError, HamsError, ModelFetchError

SILENCE_S = 30.0
"""Longest time the server may send nothing, s."""
DEADLINE_S = 1800.0
"""Longest time for one file, all tries together, s."""
TRIES = 3
PAUSE_S = 0.5
"""Before the second try; then twice as long each time."""
_HEX = re.compile(r"^[0-9a-f]{64}$")


def fetch(source: str, sha256: str | None, cache: Path, progress: Progress) -> Path:
    """Return the file's path in `cache`; see :func:`hams_services.zoo.sources.fetch`.

    The ``.bin`` of an OpenVINO ``.xml`` comes from the same folder; its digest stands in the URL's fragment:
    ``https://host/net.xml#weights=SHA256``.
    """
    parts = urlsplit(source)
    name = PurePosixPath(unquote(parts.path)).name
    if not parts.hostname or not name or re.search(r'[\\/:\x00-\x1f"]', name):
        raise ModelFetchError(f"{source} does not name a file on a server")
    if sha256 is None:
        raise ModelFetchError(f"{source} needs its sha256", "without it nobody knows whether the file is the right one")
    path = cache / "https" / sha256 / name
    url = urlunsplit(parts._replace(fragment=""))
    if not cached(path, sha256):
        download(url, sha256, path, progress)
    if name.endswith(".xml"):
        weights = parts.fragment.removeprefix("weights=")
        if not _HEX.match(weights):
            raise ModelFetchError(
                f"{source}: the weights of an OpenVINO .xml need a SHA-256 too",
                f"write {url}#weights=SHA256_OF_BIN",
            )
        beside = path.with_suffix(".bin")
        if not cached(beside, weights):
            bin_path = parts.path.removesuffix(".xml") + ".bin"
            download(urlunsplit(parts._replace(path=bin_path, fragment="")), weights, beside, progress)
    return path


def download(url: str, sha256: str, path: Path, progress: Progress) -> None:
    """Download `url` to `path`; what a broken connection interrupts is tried again.

    Raises:
        ModelFetchError: the server cannot be reached or does not give the file.
        DigestError: it gives another file.
    """
    deadline = time.monotonic() + DEADLINE_S
    for attempt in range(TRIES):
        try:
            return _once(url, sha256, path, progress, deadline)
        except DigestError:
            raise
        except (ModelFetchError, OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if attempt == TRIES - 1 or not _passing(error):
                raise _explain(url, error, attempt + 1) from error
            time.sleep(PAUSE_S * 2**attempt)
    return None


def _once(url: str, sha256: str, path: Path, progress: Progress, deadline: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "hams", "Accept-Encoding": "identity"})
    with urllib.request.build_opener(_OnlyHttps(urlsplit(url).scheme)).open(request, timeout=SILENCE_S) as answer:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else 0
        if total > MAX_BYTES:
            raise ModelFetchError(f"{url} is larger than {MAX_BYTES >> 30} GiB")
        copy(_Until(answer, deadline, url), path, sha256, progress, total, url)  # type: ignore[arg-type]


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Refuses to be led from https to anything else."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != self._scheme:
            fp.close()
            raise ModelFetchError(f"{req.full_url} redirects to {newurl}, which is not {self._scheme}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Until:
    """Reads until a deadline."""

    def __init__(self, answer: http.client.HTTPResponse, deadline: float, url: str) -> None:
        self._answer = answer
        self._deadline = deadline
        self._url = url

    def read(self, size: int) -> bytes:
        if time.monotonic() > self._deadline:
            raise ModelFetchError(f"{self._url} was not complete after {DEADLINE_S:g} s")
        return self._answer.read1(size)


def _passing(error: BaseException) -> bool:
    """Say whether another try may help."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    if isinstance(error, HamsError):
        return "ended after" in error.text
    return not _is_certificate(error)


def _is_certificate(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _explain(url: str, error: BaseException, tries: int) -> ModelFetchError:
    if isinstance(error, ModelFetchError):
        return error
    if isinstance(error, urllib.error.HTTPError):
        return ModelFetchError(f"{url}: the server says {error.code} {error.reason}", "check the address")
    reason = getattr(error, "reason", None) or error
    if _is_certificate(error):
        return ModelFetchError(f"{url}: {reason}", "SSL_CERT_FILE may name your own certificate authority")
    if isinstance(error, http.client.HTTPException):
        reason = f"the connection was cut ({type(error).__name__})"
    return ModelFetchError(
        f"{url} could not be reached in {tries} tries: {reason}",
        "is this machine offline? HTTPS_PROXY is honoured; or fetch it elsewhere and name the model by a path",
    )
