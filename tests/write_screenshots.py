"""Pictures of the portal in docs/portal/, from the running demonstration.

    trapstreet demo --keep                          (in another terminal; it ends with a sign-in link)
    python -m tests.write_screenshots LINK

Each page is reached as a person reaches it: by the link on the page before.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "portal"

# Name of the picture, the page to begin at, and what the links say that lead on from there: the first that fits each.
PAGES: Sequence[tuple[str, str, Sequence[str]]] = (
    ("home", "/", ()),
    ("registrations", "/registrations", ()),
    ("registration", "/registrations", ("/registrations/",)),
    ("embeddings", "/embeddings", ()),
    ("embedding", "/embeddings", ("/embeddings/",)),
    ("suspects", "/suspects", ()),
    ("suspect", "/suspects", ("/suspects/",)),
    ("disputes", "/disputes", ()),
    ("dispute", "/disputes", ("/disputes/",)),
    ("accused", "/disputes", ("/disputes/", "/d/")),
    ("survival", "/survival-reports", ()),
    ("account", "/account", ()),
    ("members", "/vendor/members", ()),
    ("webhooks", "/vendor/webhooks", ()),
    ("log", "/log", ()),
    ("log-entry", "/log", ("/log/",)),
    ("verify", "/verify", ()),
)
NEW = ("/registrations/new", "/embeddings/new", "/suspects/new", "/disputes/new")

WIDE, PHONE = {"width": 1120, "height": 760}, {"width": 390, "height": 844}


def main(link: str) -> None:
    """Take every picture, on a desktop; the dispute also on a phone."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(link))
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        page.goto(link)
        page.get_by_role("button", name="Sign in").click()
        for name, path, steps in PAGES:
            walk(page, origin + path, steps)
            take(page, name)
            if name == "dispute":
                page.set_viewport_size(PHONE)
                take(page, f"{name}-phone")
                page.set_viewport_size(WIDE)
        browser.close()


def walk(page: Page, address: str, steps: Sequence[str]) -> None:
    """Go to a page and on from it by its links."""
    page.goto(address)
    for beginning in steps:
        wanted = "".join(f":not([href='{path}'])" for path in NEW)
        found = page.locator(f"main a[href^='{beginning}']{wanted}")
        # The newest stands first; the demonstration's first dispute is the one about the stolen network.
        (found.last if beginning == "/disputes/" else found.first).click()
        page.wait_for_load_state()


def take(page: Page, name: str) -> None:
    """Take a picture of what is on the screen."""
    page.screenshot(path=FOLDER / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
