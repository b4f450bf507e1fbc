"""The page in a real browser, against a real system: it shows what is there and what happens; login by role."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hams_services.ctl.system.broker import MAX_PAYLOAD, Broker
from hams_services.security.folder import set_up_site
from hams_services.web.options import WebOptions
from hams_shared.bus.nats.client import NatsBus
from hams_shared.runtime.credentials import load
from support.up import Up, cores
from support.web import Client, browser, open_view, page, violations

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

VIEWS = ("overview", "placement", "timeline")
WEB = ("--web", "127.0.0.1:0")


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory, face_file: Path) -> Iterator[Up]:
    """Service F on two unlike devices, with a page."""
    with Up(tmp_path_factory.mktemp("web") / "home", *cores(), options=WEB) as up:
        up.ctl("deploy", face_file)
        yield up


def device_of(view: Page, node: str) -> str:
    """The device in whose column a node stands."""
    node_of = view.locator(f'.column:has([data-key="{node}"])').first
    return str(node_of.get_attribute("data-key"))


def test_what_is_there_is_shown_and_a_lost_device_is_seen(face: Up) -> None:
    with browser(face.page) as view:
        view.get_by_text("in the picture: 1 × face").first.wait_for()
        assert "face/carphone" in view.locator(".tile h3").inner_text()
        colours = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        assert view.locator("canvas.picture").evaluate(colours) > 50, "there is a picture"
        assert "serving" in view.get_by_role("region", name="Groups").inner_text()
        open_view(view, face.page, "placement")
        view.locator(".nodes").first.wait_for()
        devices = {one.get_attribute("data-key") for one in view.locator(".column").all()}
        assert len(devices) == 2
        assert device_of(view, "face/landmarks") in devices
        assert "bottleneck of face" in view.locator(".columns").inner_text()
        view.get_by_role("row", name=re.compile("centerface")).wait_for()
        detector = device_of(view, "face/face")
        [other] = devices - {detector}
        word = "openvino:CPU" if ".openvino." in detector else "onnxruntime:CPU"
        os.kill(face.pid_of(word), signal.SIGSTOP)  # one that is killed is there again before it counts as lost
        view.locator(f'.column[data-key="{other}"] [data-key="face/face"]').wait_for()
        face.kill(word)
        open_view(view, face.page, "timeline")
        view.get_by_text(re.compile(rf"{re.escape(detector)}.* is lost")).first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_views_have_no_barriers(face: Up, theme: str) -> None:
    for width in (1280, 360):
        with browser(face.page, theme=theme, width=width) as view:
            for name in VIEWS:
                open_view(view, face.page, name)
                view.locator("main section").first.wait_for()
                assert not violations(view), name
                assert not view.evaluate("document.documentElement.scrollWidth > innerWidth"), (name, width)


def test_the_what_if_asks_the_scheduler(face: Up) -> None:
    with browser(f"{face.page}#placement") as view:
        view.get_by_label("Add a device like").wait_for()
        view.get_by_role("button", name="Add", exact=True).click()
        view.get_by_role("button", name="Ask the scheduler").click()
        view.get_by_text("Bottleneck now").wait_for()
        assert not violations(view)


# ── login ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's credentials."""
    set_up_site(tmp_path / "site", [], ["box"], max_payload=MAX_PAYLOAD)
    return tmp_path / "site"


def test_login_by_role_in_a_browser(site: Path, tmp_path: Path) -> None:
    options = ("--secrets", str(site), "--host", "0.0.0.0", *WEB)
    with Up(tmp_path / "home", cores()[0], options=options) as up, browser(up.page) as view:

        def log_in(user: str) -> None:
            view.get_by_label("Credentials file").set_input_files(site / f"{user}.creds")
            view.get_by_role("button", name="Log in").click()

        view.get_by_role("heading", name="Log in to HAMS").wait_for()
        assert not violations(view)
        log_in("scheduler")
        view.get_by_text("a part of HAMS").wait_for()
        log_in("dashboard")
        view.get_by_role("heading", name="Overview").wait_for()
        [cookie] = view.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
        open_view(view, up.page, "placement")
        view.get_by_role("heading", name="FPS matrix").wait_for()
        assert view.get_by_role("heading", name="What if").count() == 0
        view.get_by_role("button", name="Log out").click()
        log_in("admin")
        view.get_by_role("button", name="Log out").wait_for()
        open_view(view, up.page, "placement")
        view.get_by_role("heading", name="What if").wait_for()
        seed = load(site / "admin.creds").seed
        assert seed not in up.logs() + up.output()
        up.ctl("undeploy", "none", code=5)  # the system is well


@pytest.fixture
async def client(site: Path, tmp_path: Path) -> AsyncIterator[Client]:
    """A page on a real broker with users, without other parts."""
    async with Broker(tmp_path / "store", secrets=site) as broker:
        dashboard = load(site / "dashboard.creds")
        async with (
            NatsBus(broker.url, credentials=dashboard) as bus,
            page(bus, WebOptions(credentials=True), url=broker.url) as found,
        ):
            yield found


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("user", "right", "what_if"), [("dashboard", "view", 403), ("app", "send", 403), ("admin", "change", 404)]
)
async def test_a_session_has_the_rights_of_its_credentials(
    client: Client, site: Path, user: str, right: str, what_if: int
) -> None:
    text = (site / f"{user}.creds").read_text()
    answer = await client.post("/api/session", text)
    assert (answer.status_code, answer.json()["right"]) == (200, right)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert (await client.post("/api/what-if", {})).status_code == what_if  # 404: allowed, and no scheduler runs
    assert len(client.site.connections) == 1
    gone = await client.post("/api/session", method="DELETE")
    assert gone.json()["right"] == "none"
    assert (await client.get("/api/self")).status_code == 401
    assert client.site.connections == {}


@pytest.mark.smoke
async def test_credentials_of_another_site_and_of_parts_are_refused(client: Client, site: Path, tmp_path: Path) -> None:
    set_up_site(tmp_path / "other", [], ["box"], max_payload=MAX_PAYLOAD)
    for path in (tmp_path / "other" / "admin.creds", site / "scheduler.creds", site / "agent-box.creds"):
        answer = await client.post("/api/session", path.read_text())
        assert (answer.status_code, answer.json()["code"]) == (401, "credentials"), path
    assert client.site.connections == {}
    assert len(client.site.sessions) == 0


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("key_of", "name"), [("agent-box", "dashboard"), ("dashboard", "admin"), ("pipeline", "app"), ("app", "admin-x")]
)
async def test_a_file_that_states_another_name_is_refused(client: Client, site: Path, key_of: str, name: str) -> None:
    text = (site / f"{key_of}.creds").read_text().replace(f"credentials of {key_of}", f"credentials of {name}")
    answer = await client.post("/api/session", text)
    assert (answer.status_code, answer.json()["code"]) == (401, "credentials")
    assert f"the key in this file is not that of {name}" in answer.json()["text"]
    assert (client.site.connections, len(client.site.sessions)) == ({}, 0)
    assert (await client.get("/api/self")).status_code == 401


@pytest.mark.smoke
async def test_a_session_ends_when_it_is_idle(client: Client, site: Path) -> None:
    await client.post("/api/session", (site / "admin.creds").read_text())
    client.site.now = lambda: 1e9
    assert (await client.get("/api/session")).json()["right"] == "none"
