"""A service of real processes, Debian's Chromium before it, and people who are signed in."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from app.db.engine import transaction
from app.people.links import make_link
from app.people.persons import OWNER, PERSON_RANDOM_BYTES, add_member, make_person
from app.people.tokens import TOKEN_BYTES
from app.portal.rendering import static_url
from tests.conftest import TEMPLATE, Server
from tests.flows.claimant import Claimant, Service, running, sign_up
from tests.simulators.mail_server import MailServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Generous: several of these tests run beside each other on two cores.
PATIENCE_MILLISECONDS = 30_000

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

# The rules of WCAG 2.2 AA that axe-core can decide.
AXE = Path(__file__).parent / "axe-core-4.14.1.min.js"
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailServer]:
    """Where the service's mail goes."""
    with MailServer() as server:
        yield server


@pytest.fixture(scope="session")
def service(
    servers: Callable[[str], Server], mail_server: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The API with the portal, and a light worker."""
    folder, smtp_url = tmp_path_factory.mktemp("portal"), f"smtp+plain://127.0.0.1:{mail_server.port}"
    with servers("embedded").database(TEMPLATE) as database, running(database, folder, smtp_url) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, for one file: Playwright keeps an event loop in this thread, and other files run their own."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # Chromium has no sandbox of its own where it runs as root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@dataclass
class Tab:
    """A page of the portal, in a browser profile of its own, that nothing may go wrong in unnoticed."""

    page: Page
    origin: str
    faults: list[str]

    def go(self, path: str) -> Page:
        """Open a page of the portal."""
        self.page.goto(self.origin + path)
        return self.page

    def check(self) -> None:
        """Hold the page to WCAG 2.2 AA as far as axe-core can, and to our own policy of contents."""
        # Playwright's own world: the page's policy of contents does not concern it.
        self.page.evaluate(AXE.read_text() + "; undefined")
        options = {"runOnly": {"type": "tag", "values": AXE_TAGS}}
        found = self.page.evaluate("options => axe.run(document, options)", options)
        faults = [
            f"{fault['id']}: {fault['help']} ({node['html'][:160]})"
            for fault in found["violations"]
            for node in fault["nodes"]
        ]
        assert faults == []
        assert self.faults == []

    def check_phone(self) -> None:
        """Hold the page to a phone's width: nothing is wider than the screen."""
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": 360, "height": 740})
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        self.page.set_viewport_size(before)
        assert wide <= 360, f"the page is {wide} pixels wide on a phone of 360"


@contextmanager
def opened(browser: Browser, origin: str, **options: Any) -> Iterator[Tab]:
    """Open a fresh profile with one page; what its console calls an error is a fault."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("console", lambda said: faults.append(said.text) if _is_fault(said.type, said.text) else None)
    try:
        yield Tab(page, origin, faults)
    finally:
        context.close()


def _is_fault(kind: str, text: str) -> bool:
    # A page that refuses something is no fault of the page: browsers report its status so.
    return (
        kind == "error" and re.match("Failed to load resource: the server responded with a status of 4", text) is None
    )


@pytest.fixture
def tab(browser: Browser, service: Service) -> Iterator[Tab]:
    """Nobody's browser."""
    with opened(browser, origin_of(service)) as tab:
        yield tab


@pytest.fixture
def maker(browser: Browser, service: Service) -> Iterator[Tab]:
    """The browser of a person without a vendor."""
    with opened(browser, origin_of(service), accept_downloads=True) as tab:
        sign_in(tab, service)
        yield tab


@pytest.fixture
def plain_tab(browser: Browser, service: Service) -> Iterator[Tab]:
    """A browser without JavaScript."""
    with opened(browser, origin_of(service), java_script_enabled=False) as tab:
        yield tab


@pytest.fixture(scope="module")
def run_script(browser: Browser, service: Service) -> Iterator[Callable[..., Any]]:
    """Run a function body on a page of the portal; `load(name)` gives a module of static/, `given` what was given."""
    with opened(browser, origin_of(service)) as tab:
        tab.go("/")

        def run(body: str, **given: Any) -> Any:
            given |= {"statics": static_url("")}
            loading = "const load = (name) => import(`${given.statics}${name}.js`);"
            return tab.page.evaluate(f"async (given) => {{ {loading} {body} }}", given)

        yield run


@pytest.fixture(scope="session")
def vendor(service: Service) -> Claimant:
    """A vendor with a registered watermark, for pages that only read."""
    return sign_up(service, "portal vendor")


def origin_of(service: Service) -> str:
    """Give the portal's origin: passkeys want a name, not an address."""
    return f"http://localhost:{service.port}"


def vendor_id_of(claimant: Claimant) -> UUID:
    return UUID(claimant.client.get("/v1/vendors/me")["id"])


def sign_in(tab: Tab, service: Service, vendor_id: UUID | None = None, name: str = "Ada", role: str = OWNER) -> UUID:
    """Make a person, of a vendor if one is given, and sign it in by a one-time link; gives the person."""
    now = datetime.now(UTC)
    with transaction(service.database.service) as session:
        person = make_person(session, name, secrets.token_bytes(PERSON_RANDOM_BYTES), now)
        if vendor_id is not None:
            add_member(session, person.id, vendor_id, role, now)
        link = make_link(session, person.id, secrets.token_bytes(TOKEN_BYTES), now)
        person_id = person.id
    tab.go(f"/sign-in/{link}")
    tab.page.get_by_role("button", name="Sign in").click()
    tab.page.wait_for_url(f"{tab.origin}/")
    return person_id


__all__ = ["Error", "Tab", "needs_browser", "opened", "origin_of", "sign_in", "vendor_id_of"]
