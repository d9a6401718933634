"""Passkeys, recovery codes, sessions: how people sign up and in, and how others are kept out."""

import base64
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, CDPSession
from sqlalchemy import func, select, text, update

from app.db.engine import transaction
from app.db.people_tables import (
    CeremonyRow,
    GuessRow,
    PasskeyRow,
    PersonRow,
    RecoveryCodeRow,
    WebSessionRow,
)
from app.people.links import make_link
from app.people.persons import AUDITOR, PERSON_RANDOM_BYTES, make_person
from app.people.tokens import TOKEN_BYTES
from tests.flows.claimant import Service, sign_up
from tests.portal.conftest import Tab, needs_browser, opened, origin_of, sign_in, vendor_id_of

pytestmark = needs_browser


def authenticator(tab: Tab, **options: Any) -> tuple[CDPSession, str]:
    """Give a tab a device that verifies its user and keeps passkeys."""
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("WebAuthn.enable")
    wanted = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": wanted | options})
    return session, made["authenticatorId"]


def signed_up(tab: Tab, name: str) -> None:
    tab.go("/sign-up")
    tab.page.get_by_label("Your name").fill(name)
    tab.page.get_by_role("button", name="Sign up with a passkey").click()
    tab.page.wait_for_url("**/account/recovery-codes")


def sign_out(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Sign out", exact=True).first.click()
    tab.page.wait_for_url(f"{tab.origin}/")


def by_passkey(tab: Tab) -> None:
    tab.go("/sign-in")
    tab.page.get_by_role("button", name="Sign in with a passkey").click()


def cookie_of(tab: Tab) -> str:
    (cookie,) = tab.page.context.cookies()
    return f"{cookie['name']}={cookie['value']}"


@contextmanager
def client(service: Service, cookie: str = "") -> Iterator[httpx2.Client]:
    """Ask as a browser of our pages would, by hand."""
    headers = {"Origin": origin_of(service)} | ({"Cookie": cookie} if cookie else {})
    with httpx2.Client(base_url=service.url, trust_env=False, headers=headers) as made:
        yield made


@pytest.fixture(autouse=True)
def no_guesses(service: Service) -> None:
    with transaction(service.database.service) as session:
        for row in session.scalars(select(GuessRow)):
            session.delete(row)


def codes_of(tab: Tab) -> list[str]:
    tab.go("/account/recovery-codes")
    tab.page.get_by_role("button", name=re.compile("Make ten")).click()
    tab.page.get_by_role("heading", name="Your recovery codes").wait_for()
    return tab.page.locator("ol.codes code").all_inner_texts()


def test_a_newcomer_signs_up_signs_out_and_in_again_without_typing_a_name(tab: Tab):
    session, device = authenticator(tab)
    tab.go("/sign-up")
    tab.check()
    tab.check_phone()
    signed_up(tab, "people Nora <b>bold</b>")
    tab.check()
    (credential,) = session.send("WebAuthn.getCredentials", {"authenticatorId": device})["credentials"]
    assert (credential["isResidentCredential"], credential["rpId"]) == (True, "localhost")
    sign_out(tab)
    tab.go("/sign-in")
    tab.check()
    tab.check_phone()
    by_passkey(tab)
    tab.page.wait_for_url(f"{tab.origin}/")
    assert "people Nora <b>bold</b>" in tab.page.get_by_role("heading", level=1).inner_text()
    tab.go("/account")
    tab.check()
    tab.check_phone()


def test_a_device_that_does_not_verify_its_user_or_is_unknown_does_not_sign_in(tab: Tab, browser: Browser):
    session, device = authenticator(tab)
    signed_up(tab, "people Vera")
    (credential,) = session.send("WebAuthn.getCredentials", {"authenticatorId": device})["credentials"]
    sign_out(tab)
    session.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
    by_passkey(tab)
    tab.page.get_by_text("No passkey was used").wait_for()
    stranger = credential | {"credentialId": base64.b64encode(b"unknown" * 4).decode()}
    with opened(browser, tab.origin) as other:
        elsewhere, device = authenticator(other)
        elsewhere.send("WebAuthn.addCredential", {"authenticatorId": device, "credential": stranger})
        by_passkey(other)
        other.page.get_by_text("this passkey is not known here").wait_for()
        assert other.page.context.cookies() == []


def test_a_copied_passkey_whose_counter_does_not_rise_is_refused(tab: Tab, browser: Browser):
    session, device = authenticator(tab)
    signed_up(tab, "people Clara")
    (copied,) = session.send("WebAuthn.getCredentials", {"authenticatorId": device})["credentials"]
    for _ in range(2):
        sign_out(tab)
        by_passkey(tab)
        tab.page.wait_for_url(f"{tab.origin}/")
    with opened(browser, tab.origin) as other:
        elsewhere, device = authenticator(other)
        elsewhere.send("WebAuthn.addCredential", {"authenticatorId": device, "credential": copied})
        by_passkey(other)
        other.page.get_by_text("this passkey's answer was not accepted").wait_for()
        assert other.page.context.cookies() == []


def test_an_answer_is_good_once_and_for_its_own_purpose(tab: Tab, service: Service):
    authenticator(tab)
    signed_up(tab, "people Rita")
    sign_out(tab)
    sent: list[str] = []
    tab.page.on("request", lambda asked: sent.append(asked.post_data or "") if asked.url.endswith("/sign-in") else None)
    by_passkey(tab)
    tab.page.wait_for_url(f"{tab.origin}/")
    answer = next(body for body in sent if "credential=%7B" in body)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with client(service) as asking:
        for path in ("/sign-in", "/sign-up"):
            again = asking.post(path, content=answer, headers=form)
            assert again.status_code == 422
            assert "set-cookie" not in again.headers
        assert "was sent before" in asking.post("/sign-in", content=answer, headers=form).text


@pytest.mark.parametrize(
    "answer",
    ["", "{", "[]", "null", '{"id":1}', "[" * 20_000, "x" * 40_000, '{"id":"a","rawId":"a","type":"public-key"}'],
)
def test_what_no_authenticator_says_is_refused_with_a_page(service: Service, answer: str):
    with client(service) as asking:
        for path in ("/sign-in", "/sign-up"):
            refused = asking.post(path, data={"credential": answer, "name": "people Nobody"})
            assert refused.status_code == 422
            assert "set-cookie" not in refused.headers
            assert 'role="alert"' in refused.text


def test_a_challenge_is_used_up_by_a_wrong_answer_and_expires(tab: Tab, service: Service):
    with client(service) as asking:
        challenge = asking.post("/passkeys/sign-in").json()["challenge"]
        data = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": origin_of(service)}).encode()
        text = base64.urlsafe_b64encode(data).decode().rstrip("=")
        response = {"clientDataJSON": text, "authenticatorData": "AA", "signature": "AA", "userHandle": "AA"}
        answer = {"id": "AA", "rawId": "AA", "type": "public-key", "response": response}
        first = asking.post("/sign-in", data={"credential": json.dumps(answer)})
        assert "not known here" in first.text
        assert "was sent before" in asking.post("/sign-in", data={"credential": json.dumps(answer)}).text
        asking.post("/passkeys/sign-in")
    with transaction(service.database.service) as session:
        session.execute(update(CeremonyRow).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    with client(service) as asking:
        asking.post("/passkeys/sign-in")
    with transaction(service.database.service) as session:
        assert session.scalars(select(func.count()).select_from(CeremonyRow)).one() == 1


def test_who_signs_up_without_javascript_is_told_what_works(plain_tab: Tab):
    plain_tab.go("/sign-up")
    assert "Passkeys need JavaScript" in plain_tab.page.content()
    plain_tab.page.get_by_label("Your name").fill("people Plain")
    plain_tab.page.get_by_role("button", name="Sign up").click()
    plain_tab.page.get_by_text("passkeys need JavaScript and a browser").wait_for()
    assert plain_tab.page.get_by_label("Your name").input_value() == "people Plain"


def test_several_passkeys_have_names_and_the_last_one_stays_while_no_code_is_left(tab: Tab):
    session, device = authenticator(tab)
    signed_up(tab, "people Paula")
    tab.go("/account")
    tab.page.get_by_role("button", name="Remove First passkey").click()
    tab.page.get_by_text("this is your last passkey and no recovery code is left").wait_for()
    tab.check()
    tab.page.get_by_role("button", name="Add a passkey").click()
    tab.check()
    # The device that has one already makes no second one.
    tab.page.get_by_label("Name of this passkey").fill("the same device")
    tab.page.get_by_role("button", name="Add a passkey").click()
    tab.page.get_by_text("A passkey of yours is on this device already").wait_for()
    session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": device})
    authenticator(tab)
    tab.page.get_by_label("Name of this passkey").fill("<script>key ring</script>")
    tab.page.get_by_role("button", name="Add a passkey").click()
    tab.page.wait_for_url("**/account")
    tab.page.get_by_label("Name of <script>key ring</script>").fill("key ring")
    tab.page.get_by_role("button", name="Rename <script>").click()
    tab.page.get_by_role("button", name="Remove key ring").wait_for()
    tab.page.get_by_role("button", name="Remove First passkey").click()
    tab.page.get_by_role("button", name="Remove First passkey").wait_for(state="detached")
    assert tab.page.get_by_role("button", name="Remove key ring").count() == 1


def test_a_recovery_code_signs_in_once_and_leads_to_a_new_passkey(tab: Tab, browser: Browser):
    authenticator(tab)
    signed_up(tab, "people Rosa")
    codes = codes_of(tab)
    tab.check()
    tab.check_phone()
    assert len(set(codes)) == 10
    assert all(re.fullmatch("([a-z2-7]{5}-){3}[a-z2-7]{5}", code) for code in codes)
    with opened(browser, tab.origin) as other:
        authenticator(other)
        other.go("/recover")
        other.check()
        other.page.get_by_label("Recovery code").fill(codes[0].upper().replace("-", " "))
        other.page.get_by_role("button", name="Sign in").click()
        other.page.wait_for_url("**/account/passkeys/new")
        other.page.get_by_label("Name of this passkey").fill("new telephone")
        other.page.get_by_role("button", name="Add a passkey").click()
        other.page.wait_for_url("**/account")
        assert "You have 9 left" in other.page.content()
        sign_out(other)
        other.go("/recover")
        other.page.get_by_label("Recovery code").fill(codes[0])
        other.page.get_by_role("button", name="Sign in").click()
        other.page.get_by_text("or it was used").wait_for()
        assert other.page.get_by_label("Recovery code").input_value() == codes[0]
        fresh = codes_of(tab)
        other.page.get_by_label("Recovery code").fill(codes[1])
        other.page.get_by_role("button", name="Sign in").click()
        other.page.get_by_text("or it was used").wait_for()
        assert set(fresh).isdisjoint(codes)


def test_guesses_at_codes_are_limited_by_network_and_not_looked_up(tab: Tab, service: Service):
    authenticator(tab)
    signed_up(tab, "people Gwen")
    right = codes_of(tab)[0]
    with client(service) as asking:
        wrong = [asking.post("/recover", data={"code": f"aaaaa-{number}"}).text for number in range(10)]
        assert all("this is no recovery code" in page for page in wrong)
        late = asking.post("/recover", data={"code": right})
        assert "too many codes were typed from your network" in late.text
        assert "set-cookie" not in late.headers
    with transaction(service.database.service) as session:
        used = select(func.count()).select_from(RecoveryCodeRow).where(RecoveryCodeRow.used_at.is_not(None))
        rows = session.scalars(used.join(PersonRow).where(PersonRow.name == "people Gwen")).one()
        assert rows == 0
        # A minute later one more is taken.
        for row in session.scalars(select(GuessRow)):
            row.counts_until -= timedelta(minutes=2)
    with client(service) as asking:
        assert asking.post("/recover", data={"code": right}).status_code == 303


def test_signing_in_again_makes_a_new_session_and_ends_the_old(tab: Tab, service: Service):
    authenticator(tab)
    signed_up(tab, "people Fiona")
    before = cookie_of(tab)
    (code, *_) = codes_of(tab)
    with client(service, before) as asking:
        entered = asking.post("/recover", data={"code": code})
        assert entered.status_code == 303
        assert entered.headers["Set-Cookie"].partition(";")[0] != before
        assert asking.get("/account").headers["Location"].startswith("/sign-in")
    # A value that somebody planted is never taken for a session.
    planted = "trapstreet=" + "A" * 43
    with client(service, planted) as asking:
        assert asking.get("/account").status_code == 303


def test_signing_out_elsewhere_ends_that_session_at_once(tab: Tab, service: Service, browser: Browser):
    authenticator(tab)
    signed_up(tab, "people Sara")
    (code, *_) = codes_of(tab)
    with opened(browser, tab.origin, user_agent="Evil <i>browser</i>") as other:
        other.go("/recover")
        other.page.get_by_label("Recovery code").fill(code)
        other.page.get_by_role("button", name="Sign in").click()
        other.page.wait_for_url("**/account/passkeys/new")
        tab.go("/account")
        tab.page.get_by_text("Evil <i>browser</i>").wait_for()
        tab.page.get_by_role("button", name="Sign out session 1").click()
        tab.page.get_by_role("button", name="Sign out session 1").wait_for(state="detached")
        other.go("/account")
        other.page.wait_for_url("**/sign-in?next=%2Faccount")
    tab.page.get_by_role("button", name="Sign out everywhere").click()
    tab.page.wait_for_url("**/sign-in")
    assert tab.page.context.cookies() == []


def test_nobody_touches_anothers_passkeys_or_sessions(tab: Tab, service: Service):
    authenticator(tab)
    signed_up(tab, "people Victim")
    with transaction(service.database.service) as session:
        person = session.scalars(select(PersonRow).where(PersonRow.name == "people Victim")).one()
        passkey = session.scalars(select(PasskeyRow).where(PasskeyRow.person_id == person.id)).one()
        digest = session.scalars(select(WebSessionRow.token_sha256).where(WebSessionRow.person_id == person.id)).one()
        known = base64.urlsafe_b64encode(passkey.credential_id).decode().rstrip("=")
    sign_in(tab, service, name="people Thief")
    with client(service, cookie_of(tab)) as asking:
        of_others = [
            f"/account/passkeys/{known}",
            "/account/passkeys/AAAA",
            "/account/passkeys/%00",
            "/account/passkeys/a",
        ]
        told = [asking.post(f"{path}/remove") for path in of_others]
        told += [asking.post(f"{path}/name", data={"name": "mine"}) for path in of_others]
        assert {page.status_code for page in told} == {422}
        assert {re.search('role="alert">(.*?)<', page.text).group(1) for page in told} == {
            "there is no such object here"
        }
        ended = [asking.post(f"/account/sessions/{name}/end") for name in (digest.hex(), "00" * 32, "zz")]
        assert [page.status_code for page in ended] == [404] * 3
        elsewhere = asking.post("/account/vendor", data={"vendor": "x"})
        assert len({page.content for page in [*ended, elsewhere]}) == 1


def test_a_session_that_ends_in_mid_form_keeps_what_was_typed(tab: Tab, service: Service):
    maker = sign_up(service, "people mid-form")
    person = sign_in(tab, service, vendor_id_of(maker))
    tab.go("/vendor/members")
    tab.page.get_by_label("For whom").fill('"><script>alert(1)</script>')
    tab.page.get_by_label("Role", exact=True).select_option(AUDITOR)
    with transaction(service.database.service) as session:
        for row in session.scalars(select(WebSessionRow).where(WebSessionRow.person_id == person)):
            session.delete(row)
    tab.page.get_by_role("button", name="Make an invitation").click()
    tab.page.get_by_role("heading", name="Your session has ended").wait_for()
    tab.check()
    second = Tab(tab.page.context.new_page(), tab.origin, tab.faults)
    sign_in(second, service, vendor_id_of(maker), name="people back again")
    tab.page.get_by_role("button", name="Send again").click()
    tab.page.get_by_role("heading", name="Send this link").wait_for()
    second.go("/vendor/members")
    assert second.page.get_by_role("cell", name='"><script>alert(1)</script>', exact=True).count() == 1


def test_by_https_the_cookie_is_one_that_no_other_host_can_set_or_see(service: Service, tmp_path: Path):
    secure = "https://portal.example"
    with transaction(service.database.service) as session:
        now = datetime.now(UTC)
        person = make_person(session, "people Https", secrets.token_bytes(PERSON_RANDOM_BYTES), now)
        link = make_link(session, person.id, secrets.token_bytes(TOKEN_BYTES), now)
    other = Service(service.database, tmp_path)
    other.environment["TRAPSTREET_PORTAL_ORIGIN"] = secure
    try:
        other.start_api()
        with httpx2.Client(base_url=other.url, trust_env=False) as asking:
            path = f"/sign-in/{link}"
            assert asking.post(path, headers={"Origin": origin_of(other)}).status_code == 403
            entered = asking.post(path, headers={"Origin": secure})
            asked = asking.post("/passkeys/sign-in", headers={"Origin": secure})
    finally:
        other.stop()
    name, *flags = entered.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-trapstreet=")
    assert {flag.lower() for flag in flags} >= {"secure", "httponly", "samesite=lax", "path=/"}
    assert not any(flag.lower().startswith("domain") for flag in flags)
    assert entered.headers["Strict-Transport-Security"].startswith("max-age=")
    assert (asked.json()["rpId"], asked.json()["userVerification"]) == ("portal.example", "required")


# --- what outlasts a session ----------------------------------------------------------------------------------------------


def an_hour_passes(service: Service, name: str) -> None:
    """Have everybody of this name signed in for an hour already."""
    earlier = text(
        "UPDATE web_sessions SET created_at = created_at - interval '1 hour' WHERE person_id IN "
        "(SELECT id FROM people WHERE name = :name)"
    )
    with transaction(service.database.service) as session:
        session.execute(earlier, {"name": name})


def test_what_outlasts_a_session_wants_a_fresh_one_and_keeps_what_was_typed(tab: Tab, service: Service):
    vendor_id = vendor_id_of(sign_up(service, "people stale vendor"))
    person_id = sign_in(tab, service, vendor_id, "people Stale")
    page = tab.go("/vendor/api-keys")
    page.get_by_role("textbox", name="Name").fill("people lasting key")
    page.locator("input[value=read]").check()
    an_hour_passes(service, "people Stale")
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("heading", name="Sign in again").wait_for()
    tab.check()
    tab.check_phone()
    again = page.context.new_page()
    again.goto(f"{tab.origin}/sign-in?again=yes")
    again.get_by_role("button", name="Sign in with a passkey").wait_for()
    with transaction(service.database.service) as session:
        link = make_link(session, person_id, secrets.token_bytes(TOKEN_BYTES), datetime.now(UTC))
    again.goto(f"{tab.origin}/sign-in/{link}")
    # Whoever was sent another's link sees whose it is.
    assert "as people Stale, who acts for people stale vendor" in again.inner_text("main")
    again.get_by_role("button", name="Sign in").click()
    again.wait_for_url(f"{tab.origin}/")
    page.get_by_role("button", name="Send again").click()
    page.get_by_text("people lasting key").first.wait_for()
    an_hour_passes(service, "people Stale")
    assert "again=yes" in tab.go("/account/passkeys/new").url
    with client(service, cookie_of(tab)) as browser:
        for path in ("/account/recovery-codes", "/account/passkeys/new", "/vendor/members/invitations"):
            refused = browser.post(path)
            assert (refused.status_code, "Sign in again" in refused.text) == (401, True)
        # Nor does the API make a key of a session, stale or not.
        refused = browser.post("/v1/api-keys", json={"name": "people lasting", "scopes": ["read"]})
        assert (refused.status_code, "asks for a fresh sign-in" in refused.text) == (403, True)
        # What an old session may still do.
        assert browser.get("/account").status_code == 200
