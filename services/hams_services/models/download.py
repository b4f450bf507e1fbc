"""Files over https, checked against their SHA-256 or SHA-384; an interrupted download continues where it stopped.

A request asks for the rest of the file (RFC 9110, ``Range`` with ``If-Range``). If the server ignores the range, the
full file is downloaded. The digest is checked once the file is complete, wherever its parts came from.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from hams_services.models.files import CHUNK, MAX_BYTES, Progress, algorithm_of, cached, need
from hams_services.models.partial import Part, claimed
from hams_shared.errors import ModelFetchError
from hams_shared.runtime.addresses import opener
from hams_shared.runtime.backoff import Backoff
from hams_shared.runtime.reach import Use

SILENCE_S = 30.0
"""Longest time the server may send nothing, s."""
DEADLINE_S = 1800.0
"""Longest time for one file, all attempts together, s."""
TRIES = 3
"""Most attempts in a row that bring no further byte."""
RETRY = Backoff(first=0.5, longest=2.0)
"""Pauses between attempts."""
_WEIGHTS = re.compile(r"^weights=([0-9a-f]{64}|[0-9a-f]{96})$")
_COMPANION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*=([0-9a-f]{64}|[0-9a-f]{96})$")
_RANGE = re.compile(r"^bytes (?:(\d+)-\d+|\*)/(\d+|\*)$")


class _CutError(Exception):
    """The answer ended early, or is not the requested part; the next try continues."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


def absent(error: ModelFetchError) -> bool:
    """Return whether :func:`download` failed because the server has no such file."""
    return isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code in (404, 410)


def place(source: str, digest: str, cache: Path) -> Path:
    """Return where the file of an ``https:`` source is kept. Raises ModelFetchError: it names no file."""
    parts = urlsplit(source)
    name = PurePosixPath(unquote(parts.path)).name
    if not parts.hostname or not name or re.search(r'[\\/:\x00-\x1f"]', name):
        raise ModelFetchError(f"{source} does not name a file on a server")
    return cache / "https" / digest / name


def fetch(source: str, digest: str | None, cache: Path, progress: Progress) -> Path:
    """Return the file's path in `cache`; see :func:`hams_services.models.sources.fetch`.

    Files of weights come from the same folder; their digests stand in the URL's fragment. The ``.bin`` of an OpenVINO
    ``.xml``: ``https://host/net.xml#weights=DIGEST``; those of an ONNX file by their names, with ``&`` between them:
    ``https://host/net.onnx#net.onnx.data=DIGEST``.
    """
    path = place(source, digest or "", cache)
    if digest is None:
        raise ModelFetchError(
            f"{source} needs its sha256 or sha384",
            "without a digest, HAMS cannot check the file",
        )
    algorithm_of(digest)
    parts = urlsplit(source)
    url = urlunsplit(parts._replace(fragment=""))
    weights = _WEIGHTS.match(parts.fragment)
    if path.suffix == ".xml" and weights is None:
        raise ModelFetchError(
            f"{source}: the weights of an OpenVINO .xml need a digest too",
            f"write {url}#weights=DIGEST_OF_BIN (SHA-256 or SHA-384)",
        )
    if not cached(path, digest):
        download(url, digest, path, progress)
    for name, promised in _companions(path, parts.fragment):
        if not cached(path.with_name(name), promised):
            beside = f"{parts.path.rpartition('/')[0]}/{quote(name)}"
            download(urlunsplit(parts._replace(path=beside, fragment="")), promised, path.with_name(name), progress)
    return path


def _companions(path: Path, fragment: str) -> list[tuple[str, str]]:
    """Return name and digest of each file of weights that an URL's fragment names. Raises ModelFetchError."""
    if not fragment:
        return []
    found = []
    for pair in fragment.split("&"):
        name, _, digest = unquote(pair).partition("=")
        if name == "weights" and path.suffix == ".xml":
            name = path.with_suffix(".bin").name
        if not _COMPANION.match(f"{name}={digest}") or name == path.name:
            raise ModelFetchError(
                f"{pair!r} after # is not FILE=DIGEST", "a file in the same folder, SHA-256 or SHA-384"
            )
        found.append((name, digest))
    return found


def download(url: str, digest: str, path: Path, progress: Progress, size: int = 0, use: Use = "download") -> None:
    """Download `url` to `path`; a broken connection is retried, and the part that arrived is kept for the next call.

    `size` is the expected length, bytes; 0: unknown. `use`: which addresses it may lead to.

    Raises:
        ModelFetchError: the server cannot be reached or does not give the file, or it has another length; the address,
            or one that it redirects to, is refused (:mod:`hams_shared.runtime.reach`).
        DigestError: it sends another file, which is not kept.
        NoSpaceError: the disk is too full; the part that arrived is kept.
    """
    deadline = time.monotonic() + DEADLINE_S
    with claimed(path, deadline, progress) as part:
        if part is None:
            return None if cached(path, digest) else download(url, digest, path, progress, size, use)
        best, failures = part.size, 0
        while True:
            resumed = part.size > 0
            try:
                whole = _once(url, part, size, progress, deadline, use)
            except (ModelFetchError, _CutError, OSError, http.client.HTTPException) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                failures = 1 if part.size > best else failures + 1
                best = max(best, part.size)
                if failures >= TRIES or not _may_pass(error):
                    raise _explain(url, error, failures) from error
                time.sleep(RETRY.pause(failures))
                continue
            found = part.digest(algorithm_of(digest))
            if found != digest and resumed and not whole:
                part.restart()  # its beginning may be of another version: once more, all of it
                continue
            return part.finish(found, digest, url)


def _once(url: str, part: Part, size: int, progress: Progress, deadline: float, use: Use) -> bool:
    """Fetch the rest of a part; return whether this one answer held the whole file."""
    request = urllib.request.Request(url, headers={"User-Agent": "hams", "Accept-Encoding": "identity"})
    if part.size:
        request.add_header("Range", f"bytes={part.size}-")
        if validator := part.validator(url):
            request.add_header("If-Range", validator)
    try:
        opened = opener(use, ModelFetchError, _OnlyHttps(urlsplit(url).scheme)).open(request, timeout=SILENCE_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not part.size:
            raise
        error.close()
        return _beyond(error, url, part, size, progress, deadline, use)
    with opened as answer:
        total = _begin(answer, url, part, size)
        whole = part.size == 0
        need(part.path.parent, total - part.size, url)
        part.remember(url, _validator(answer))
        while True:
            if time.monotonic() > deadline:
                raise ModelFetchError(f"{url} was not complete after {DEADLINE_S:g} s", "the part that arrived is kept")
            chunk = answer.read1(CHUNK)
            if not chunk:
                break
            if part.size + len(chunk) > MAX_BYTES:
                raise _too_large(url)
            part.write(chunk)
            progress(part.size, total)
    if total and part.size < total:
        raise _CutError(
            f"{url} ended after {part.size} of {total} bytes",
            "the connection was cut: try again, the download continues there",
        )
    return whole


def _begin(answer: http.client.HTTPResponse, url: str, part: Part, size: int) -> int:
    """Read an answer's headers: drop bytes that it sends again, and return the file's length, 0: unknown."""
    total = 0
    if answer.status == 206:
        match = _RANGE.match(answer.headers.get("Content-Range", ""))
        if match is None or match.group(1) != str(part.size):
            part.restart()
            raise _CutError(f"{url}: the server sent another part than requested", "is a proxy in between?")
        total = int(match.group(2)) if match.group(2) != "*" else 0
    else:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else 0
    if total > MAX_BYTES:
        raise _too_large(url)
    if size and total and total != size:  # before the part is changed: it may be a proxy's error page
        raise ModelFetchError(
            f"{url} has {total} bytes, not {size}",
            "the server has another file now: is there a newer HAMS, with a newer zoo?",
        )
    if answer.status != 206:
        part.restart()
    return total or size


def _beyond(
    error: urllib.error.HTTPError, url: str, part: Part, size: int, progress: Progress, end: float, use: Use
) -> bool:
    """The server has nothing beyond the part's end: the part is complete, or wrong."""
    match = _RANGE.match(error.headers.get("Content-Range", ""))
    if match is not None and match.group(2) == str(part.size):
        return False
    part.restart()
    return _once(url, part, size, progress, end, use)


def _validator(answer: http.client.HTTPResponse) -> str:
    """Return the value for ``If-Range``: a strong ETag, else a date."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _too_large(url: str) -> ModelFetchError:
    return ModelFetchError(f"{url} is larger than {MAX_BYTES >> 30} GiB")


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Refuses redirects from https to anything else."""

    def __init__(self, scheme: str) -> None:
        self._schemes = ("https", scheme)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in self._schemes:
            fp.close()
            raise ModelFetchError(f"{req.full_url} redirects to {newurl}, which is not {self._schemes[1]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _may_pass(error: BaseException) -> bool:
    """Return whether another try may help."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    return not isinstance(error, ModelFetchError) and not _is_certificate(error)


def _is_certificate(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _explain(url: str, error: BaseException, attempts: int) -> ModelFetchError:
    if isinstance(error, ModelFetchError):
        return error
    if isinstance(error, urllib.error.HTTPError):
        return ModelFetchError(f"{url}: the server answers {error.code} {error.reason}", "check the address")
    if isinstance(error, _CutError):
        return ModelFetchError(str(error), error.hint)
    reason = getattr(error, "reason", None) or error
    if _is_certificate(error):
        return ModelFetchError(f"{url}: {reason}", "SSL_CERT_FILE may name your own certificate authority")
    if isinstance(error, http.client.HTTPException):
        reason = f"the connection was cut ({type(error).__name__})"
    elif isinstance(reason, TimeoutError):
        reason = f"the server sent nothing for {SILENCE_S:g} s"
    return ModelFetchError(
        f"{url} could not be reached in {attempts} attempts: {reason}",
        "is this machine offline? HTTPS_PROXY is honoured; a mirror helps (`hams-ctl models pull --from`), or a path",
    )
