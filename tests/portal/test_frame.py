"""What holds for every page: headers, files, sessions, errors."""

import base64
import hashlib
import json
import secrets

import httpx2
import pytest

from app.portal.rendering import STATIC, VENDORED
from tests.flows.claimant import Claimant, Service, wait_until
from tests.portal.conftest import Tab, origin_of, sign_in, vendor_id_of


def ask(service: Service, path: str, method: str = "GET", **given: object) -> httpx2.Response:
    with httpx2.Client(base_url=service.url, trust_env=False) as client:
        return client.request(method, path, **given)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/no-such-page", "/sign-in/none"])
def test_every_page_carries_the_strict_headers_and_no_cache_keeps_it(service: Service, path: str):
    headers = ask(service, path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_no_link_that_lets_its_reader_in_stands_in_the_log_of_requests(service: Service):
    token = secrets.token_hex(32)
    for path in ("/d/{}", "/d/{}/outcome", "/sign-in/{}", "/invitations/{}", "/feeds/{}.atom"):
        ask(service, path.format(token))
    ask(service, "/sign-in", params={"next": f"/invitations/{token}"})
    ask(service, f"/v1/artifacts/{'ab' * 32}")

    def written() -> str:
        return (service.folder / "api.log").read_text()

    wait_until(lambda: "ab" * 32 in written(), "what is no secret is written whole")
    for cut in ("/d/... ", "/d/.../outcome ", "/sign-in/... ", "/feeds/... ", "next=%2Finvitations%2F... "):
        assert cut in written()
    assert token not in written()


def test_vendored_files_are_what_their_hashes_say():
    for entry in json.loads(VENDORED.read_text()).values():
        data = (STATIC / "vendor" / entry["file"]).read_bytes()
        assert entry["integrity"] == "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()
        assert (STATIC / "vendor" / entry["licence"]).exists()


def test_what_the_api_does_not_know_stays_a_problem_and_what_the_portal_does_not_know_a_page(service: Service):
    assert ask(service, "/v1/nothing").headers["Content-Type"] == "application/problem+json"
    page = ask(service, "/nothing")
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")


def test_a_method_that_an_api_path_does_not_take_stays_405(service: Service):
    assert ask(service, "/v1/vendors/me", "DELETE").status_code == 405


def test_a_change_from_another_site_is_refused(service: Service):
    for origin in ("https://evil.example", "null", None):
        headers = {"Origin": origin} if origin else {}
        assert ask(service, "/sign-out", "POST", headers=headers).status_code == 403


def test_first_page_is_for_everybody(tab: Tab):
    tab.go("/")
    tab.check()
    tab.check_phone()


def test_a_link_signs_in_once(tab: Tab, service: Service, vendor: Claimant):
    sign_in(tab, service, vendor_id_of(vendor))
    assert tab.page.get_by_role("heading", level=1).inner_text() == "portal vendor"
    tab.check()
    tab.check_phone()
    cookie = tab.page.context.cookies()[0]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")


def test_the_cookie_speaks_to_the_api_from_our_pages_only(tab: Tab, service: Service, vendor: Claimant):
    sign_in(tab, service, vendor_id_of(vendor))
    cookie = tab.page.context.cookies()[0]
    given = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    assert ask(service, "/v1/vendors/me", headers=given).json()["name"] == "portal vendor"
    # That there is no such key says only who may ask.
    path = "/v1/api-keys/aaaaaaaaaaaa"
    assert ask(service, path, "DELETE", headers=given).status_code == 403
    assert ask(service, path, "DELETE", headers=given | {"Origin": "https://evil.example"}).status_code == 403
    ours = given | {"Origin": origin_of(service)}
    assert ask(service, path, "DELETE", headers=ours).status_code == 404
    # What would outlast the session is made on a page that asks who it is once more.
    made = ask(service, "/v1/api-keys", "POST", json={"name": "stolen", "scopes": ["read"]}, headers=ours)
    assert (made.status_code, "/vendor/api-keys" in made.text) == (403, True)


def test_who_is_signed_out_by_us_has_no_session(tab: Tab, service: Service, vendor: Claimant):
    sign_in(tab, service, vendor_id_of(vendor))
    cookie = tab.page.context.cookies()[0]
    tab.page.get_by_role("button", name="Sign out").click()
    tab.page.get_by_role("link", name="Sign in").first.wait_for()
    assert ask(service, "/v1/vendors/me", headers={"Cookie": f"{cookie['name']}={cookie['value']}"}).status_code == 401


def test_a_link_works_without_javascript(plain_tab: Tab, service: Service, vendor: Claimant):
    sign_in(plain_tab, service, vendor_id_of(vendor))
    assert plain_tab.page.get_by_role("heading", level=1).inner_text() == "portal vendor"
