"""hams-web in a test: the application without a socket, and a browser for one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from hams_services.web.app import build
from hams_services.web.options import WebOptions
from hams_services.web.service import WebService
from hams_services.web.site import Site
from hams_shared.bus.protocol import Bus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000


class Client:
    """Requests to a page in this process, as its own scripts send them: with cookies, and the token where needed."""

    def __init__(self, site: Site, client: str = "127.0.0.1", base: str = "http://127.0.0.1:8090") -> None:
        self.site = site
        transport = httpx.ASGITransport(build(site), client=(client, 5000), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url=base)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.http.get(path, **more)

    async def token(self) -> str:
        return str((await self.get("/api/session")).json()["csrf"])

    async def post(self, path: str, body: Any = None, method: str = "POST", **more: Any) -> httpx.Response:
        """Send a changing request with its token; `body`: plain values for JSON, or text or bytes as they are."""
        headers = {"X-CSRF-Token": await self.token(), **more.pop("headers", {})}
        content = {"content": body} if isinstance(body, (str, bytes)) else {"json": body}
        return await self.http.request(method, path, headers=headers, **content, **more)


@asynccontextmanager
async def page(bus: Bus, options: WebOptions | None = None, url: str = "", **more: Any) -> AsyncIterator[Client]:
    """A hams-web on `bus`, without a socket; its readers run."""
    async with WebService(bus, url, options or WebOptions()).site() as site:
        client = Client(site, **more)
        async with client.http:
            yield client


def open_view(page: Page, url: str, view: str) -> None:
    """Show a view, and wait until it has drawn the system's state."""
    page.goto(f"{url}#{view}")
    page.locator("main h1").wait_for()


@contextmanager
def browser(url: str, *, theme: str = "light", width: int = 1280) -> Iterator[Page]:
    """A page in a headless Chromium; an error in its console fails the test."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed: apt-get install chromium")
    problems: list[str] = []
    with sync.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if "Content Security Policy" in m.text else None)
        page.goto(url)
        try:
            yield page
        finally:
            chromium.close()
    assert not problems


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the view that is shown, a line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    source = Path(axe.__file__).parent / "axe.min.js"
    page.evaluate(source.read_text())  # not by a script element, which the page's policy refuses
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{v['id']}: {n['target']} {n['failureSummary']}" for v in found["violations"] for n in v["nodes"]]
