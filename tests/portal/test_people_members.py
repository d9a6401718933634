"""Members, invitations, API keys: an owner's pages, and everybody else before them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from playwright.sync_api import Browser
from sqlalchemy import select, update

from app.db.engine import transaction
from app.db.people_tables import InvitationRow, PersonRow
from app.people.persons import AUDITOR, ENGINEER, OWNER, add_member
from tests import forked
from tests.flows.claimant import Service, sign_up
from tests.portal.conftest import Tab, needs_browser, opened, origin_of, sign_in, vendor_id_of
from tests.portal.test_people import authenticator, client, cookie_of

pytestmark = needs_browser

EVERYTHING = ["read", "register", "embed", "dispute", "admin"]


@dataclass
class House:
    """A vendor with three people, each in a browser of its own."""

    vendor_id: UUID
    tabs: dict[str, Tab]
    people: dict[str, UUID]


@pytest.fixture(scope="module")
def house(service: Service, browser: Browser) -> Iterator[House]:
    vendor_id = vendor_id_of(sign_up(service, "people house <i>Ltd"))
    made = House(vendor_id, {}, {})
    origin = origin_of(service)
    with opened(browser, origin) as owner, opened(browser, origin) as engineer, opened(browser, origin) as auditor:
        for role, tab in ((OWNER, owner), (ENGINEER, engineer), (AUDITOR, auditor)):
            made.people[role] = sign_in(tab, service, vendor_id, name=f"people {role}", role=role)
            made.tabs[role] = tab
        yield made


def asking_as(service: Service, tab: Tab) -> "httpx2.Client":
    return httpx2.Client(
        base_url=service.url, trust_env=False, headers={"Origin": origin_of(service), "Cookie": cookie_of(tab)}
    )


def invited(tab: Tab, role: str = ENGINEER, note: str = "") -> str:
    tab.go("/vendor/members")
    tab.page.get_by_label("For whom").fill(note)
    tab.page.get_by_label("Role", exact=True).select_option(role)
    tab.page.get_by_role("button", name="Make an invitation").click()
    link = tab.page.locator("code.secret").inner_text()
    return link.removeprefix(tab.origin)


def test_an_invitation_takes_a_newcomer_through_signing_up_and_back(house: House, browser: Browser):
    owner = house.tabs[OWNER]
    path = invited(owner, AUDITOR, "<b>Nick</b>")
    owner.check()
    owner.check_phone()
    owner.go("/vendor/members")
    owner.check()
    owner.check_phone()
    with opened(browser, owner.origin) as newcomer:
        authenticator(newcomer)
        newcomer.go(path)
        newcomer.check()
        newcomer.check_phone()
        newcomer.page.get_by_role("button", name="Sign up").click()
        newcomer.page.get_by_label("Your name").fill("people Nick")
        newcomer.page.get_by_role("button", name="Sign up with a passkey").click()
        newcomer.page.get_by_role("button", name="Accept as people Nick").click()
        newcomer.page.wait_for_url(f"{owner.origin}/")
        assert newcomer.page.get_by_role("heading", level=1).inner_text() == "people house <i>Ltd"
        newcomer.go("/vendor/members")
        newcomer.check()
        assert newcomer.page.get_by_role("button", name="Remove").count() == 0
        assert newcomer.page.get_by_role("button", name="Make an invitation").count() == 0
        newcomer.go(path)
        newcomer.page.get_by_text("was accepted, revoked, or has expired").wait_for()


def test_a_revoked_an_expired_and_an_orphaned_invitation_let_nobody_in(house: House, service: Service, tab: Tab):
    owner = house.tabs[OWNER]
    second = sign_in(tab, service, house.vendor_id, name="people second owner")
    orphaned = invited(tab, OWNER, "left behind")
    revoked, expired = invited(owner, note="revoked"), invited(owner, note="expired")
    owner.go("/vendor/members")
    owner.page.get_by_role("button", name="Revoke the invitation for revoked").click()
    owner.page.get_by_role("button", name="Revoke the invitation for revoked").wait_for(state="detached")
    with transaction(service.database.service) as session:
        late = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(InvitationRow).where(InvitationRow.note == "expired").values(expires_at=late))
    owner.page.get_by_role("button", name="Remove people second owner").click()
    owner.page.get_by_role("button", name="Remove people second owner").wait_for(state="detached")
    with asking_as(service, tab) as asking:
        for path in (revoked, expired, orphaned, "/invitations/none"):
            assert asking.get(path).status_code == 404
            assert asking.post(path).status_code == 404
        assert asking.get("/vendor/members").headers["Location"] == "/vendors/new"
    assert str(second) not in owner.page.content()


def test_a_change_of_role_counts_at_once_and_an_owner_stays(house: House, service: Service):
    owner, engineer = house.tabs[OWNER], house.tabs[ENGINEER]
    with asking_as(service, engineer) as asking:
        assert asking.get("/vendor/api-keys").status_code == 403
        for role, status in ((OWNER, 200), (ENGINEER, 403)):
            owner.go("/vendor/members")
            owner.page.get_by_label("Role of people engineer", exact=True).select_option(role)
            owner.page.get_by_role("button", name="Change the role of people engineer").click()
            owner.page.wait_for_load_state()
            assert asking.get("/vendor/api-keys").status_code == status
    for button in ("Change the role of people owner", "Remove people owner"):
        owner.go("/vendor/members")
        owner.page.get_by_label("Role of people owner", exact=True).select_option(AUDITOR)
        owner.page.get_by_role("button", name=button).click()
        owner.page.get_by_text("this is the only owner: make another first").wait_for()
    owner.go("/account")
    owner.page.get_by_role("button", name="Leave people house").click()
    owner.page.get_by_text("this is the only owner: make another first").wait_for()


def test_only_owners_change_people_and_keys(house: House, service: Service):
    of_owner = house.people[OWNER]
    changes = [
        ("/vendor/members/invitations", {"role": OWNER, "note": "me"}),
        (f"/vendor/members/{of_owner}/role", {"role": AUDITOR}),
        (f"/vendor/members/{of_owner}/remove", {}),
        (f"/vendor/members/{house.people[ENGINEER]}/role", {"role": OWNER}),
        ("/vendor/members/invitations/00/revoke", {}),
        ("/vendor/api-keys", {"name": "mine", "scopes": "admin", "expiry": "never"}),
        ("/vendor/api-keys/aaaaaaaaaaaa/revoke", {}),
    ]
    for role in (ENGINEER, AUDITOR):
        with asking_as(service, house.tabs[role]) as asking:
            assert [asking.post(path, data=data).status_code for path, data in changes] == [403] * len(changes)
    with client(service) as nobody:
        assert [nobody.post(path, data=data).status_code for path, data in changes] == [401] * len(changes)


def test_another_vendors_people_invitations_and_keys_look_like_none(house: House, service: Service, tab: Tab):
    invited(house.tabs[OWNER], note="of the house")
    house.tabs[OWNER].go("/vendor/api-keys")
    other = sign_up(service, "people other house")
    sign_in(tab, service, vendor_id_of(other), name="people other owner")
    with transaction(service.database.service) as session:
        digest = session.scalars(select(InvitationRow.token_sha256).where(InvitationRow.note == "of the house")).one()
    with asking_as(service, tab) as asking:
        for theirs, none in (
            (f"/vendor/members/invitations/{digest.hex()}/revoke", f"/vendor/members/invitations/{'00' * 32}/revoke"),
            (f"/vendor/members/{house.people[OWNER]}/remove", f"/vendor/members/{UUID(int=1)}/remove"),
            (f"/vendor/members/{house.people[OWNER]}/role", f"/vendor/members/{UUID(int=1)}/role"),
        ):
            told, missing = asking.post(theirs, data={"role": AUDITOR}), asking.post(none, data={"role": AUDITOR})
            assert told.status_code == missing.status_code
            assert told.status_code in (404, 422)
            assert told.content == missing.content
        assert asking.post("/account/vendor", data={"vendor": str(house.vendor_id)}).status_code == 404
        assert "people house" not in asking.get("/vendor/members").text


def test_a_person_of_two_vendors_switches_and_leaves(house: House, service: Service, tab: Tab):
    second = vendor_id_of(sign_up(service, "people second house"))
    person = sign_in(tab, service, house.vendor_id, name="people Tom", role=AUDITOR)
    with transaction(service.database.service) as session:
        add_member(session, person, second, ENGINEER, datetime.now(UTC))
    tab.go("/account")
    tab.check()
    tab.page.get_by_role("button", name="Switch to people second house").click()
    tab.page.get_by_role("heading", level=1, name="people second house").wait_for()
    tab.go("/account")
    tab.page.get_by_role("button", name="Leave people second house").click()
    tab.page.get_by_role("button", name="Leave people second house").wait_for(state="detached")
    tab.check()
    with asking_as(service, tab) as asking:
        assert asking.get("/v1/vendors/me").status_code == 403


def test_a_key_is_shown_once_works_and_is_revoked(house: House, service: Service):
    owner = house.tabs[OWNER]
    owner.go("/vendor/api-keys")
    owner.check()
    owner.check_phone()
    owner.page.get_by_label("Name", exact=True).fill("<img src=x> build")
    owner.page.get_by_role("button", name="Make a key").click()
    owner.page.get_by_text("name at least one").wait_for()
    assert owner.page.get_by_label("Name", exact=True).input_value() == "<img src=x> build"
    owner.page.get_by_label("read: read what").check()
    owner.page.get_by_role("button", name="Make a key").click()
    text = owner.page.locator("code.secret").inner_text()
    owner.check()
    owner.check_phone()
    bearer = {"Authorization": f"Bearer {text}"}
    assert httpx2.get(f"{service.url}/v1/vendors/me", headers=bearer, trust_env=False).status_code == 200
    owner.go("/vendor/api-keys")
    assert text not in owner.page.content()
    owner.check()
    owner.check_phone()
    # The first key came with the vendor: a third one is refused, and the form is kept.
    owner.page.get_by_label("Name", exact=True).fill("one too many")
    owner.page.get_by_label("read: read what").check()
    owner.page.get_by_role("button", name="Make a key").click()
    owner.page.get_by_text("2 keys are alive: revoke one first").wait_for()
    assert owner.page.get_by_label("Name", exact=True).input_value() == "one too many"
    assert owner.page.get_by_label("read: read what").is_checked()
    owner.page.get_by_role("button", name="Revoke <img src=x> build").click()
    owner.page.get_by_text("revoked 20").wait_for()
    assert httpx2.get(f"{service.url}/v1/vendors/me", headers=bearer, trust_env=False).status_code == 401


def test_the_operator_lets_in_new_people_and_known_ones_once(service: Service, tab: Tab):
    vendor = vendor_id_of(sign_up(service, "people of the operator"))
    made = operator(service, "people", "link", "--vendor", str(vendor), "--name", "people Olga", "--role", "engineer")
    again = operator(service, "people", "link", "--person", made["person"])
    listed = operator(service, "people", "list", str(vendor))["people"]
    assert listed == [{"id": made["person"], "name": "people Olga", "role": "engineer"}]
    for link in (made["link"], again["link"]):
        assert link.startswith(f"{tab.origin}/sign-in/")
        tab.go(link.removeprefix(tab.origin))
        tab.check()
        tab.page.get_by_role("button", name="Sign in").click()
        tab.page.get_by_role("heading", level=1, name="people of the operator").wait_for()
    with client(service) as asking:
        assert asking.post(again["link"].removeprefix(tab.origin)).status_code == 404


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--name", "people X"], "give --vendor, too"),
        (["--name", "people X", "--person", "1"], "give --name for a new person, or --person"),
        ([], "give --name for a new person, or --person"),
        (["--person", "1"], "this is no id"),
        (["--person", str(UUID(int=1))], "there is no such person"),
        (["--name", "people X", "--vendor", str(UUID(int=1))], "there is no such vendor"),
    ],
)
def test_the_operator_is_told_what_to_change(service: Service, words: list[str], says: str):
    assert says in operator(service, "people", "link", *words, status=2)["message"]
    with transaction(service.database.service) as session:
        assert session.scalars(select(PersonRow).where(PersonRow.name == "people X")).all() == []


def operator(service: Service, *words: str, status: int = 0) -> dict[str, Any]:
    """Run a command beside the service, with its settings."""
    origin = {"TRAPSTREET_PORTAL_ORIGIN": origin_of(service)}
    done = forked.run(["-m", "app.cli", *words, "--json"], service.environment | origin)
    assert done.returncode == status, done.stderr.decode()[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told
