"""The mail to the accused: one, in words of ours, and never before nothing is asked any more."""

import email
import email.policy
import re

import pytest

from app.canonical import sha256
from tests.flows.claimant import Claimant, Service, refused, sign_up, wait_until
from tests.portal.conftest import Tab, needs_browser, sign_in, vendor_id_of
from tests.simulators.mail_server import MailServer
from tests.simulators.suspect import SuspectSimulator

ADDRESS = "legal@contacts.example"


@pytest.fixture(scope="module")
def claimant(service: Service) -> Claimant:
    return sign_up(service, "contacts claimant\u202e <b>")


def mails_to(server: MailServer, address: str) -> list[str]:
    """Give the texts of the mails that an address got."""
    read = [email.message_from_bytes(mail, policy=email.policy.default) for mail in server.mails]
    return [mail.get_content() for mail in read if mail["to"] == address]


@needs_browser
def test_the_accused_gets_one_mail_when_nothing_is_asked_any_more(
    tab: Tab, service: Service, mail_server: MailServer, claimant: Claimant
) -> None:
    sign_in(tab, service, vendor_id_of(claimant))
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute_id = claimant.file(suspect, covers_per_trigger=0)
        page = tab.go(f"/disputes/{dispute_id}")
        page.get_by_role("link", name="have it mailed").click()
        field = page.get_by_label("Mail address of whoever runs the endpoint")
        field.fill("legal@nowhere")
        page.get_by_role("button", name="Write to it then").click()
        assert "write one mail address" in page.inner_text("main")
        assert field.input_value() == "legal@nowhere"
        tab.check()
        tab.check_phone()
        field.fill(ADDRESS)
        page.get_by_role("button", name="Write to it then").click()
        page.get_by_text(f"We write to {ADDRESS} when nothing is asked any more.").wait_for()
        assert mails_to(mail_server, ADDRESS) == []
        claimant.answer_until_decided(dispute_id)
    (text,) = wait_until(lambda: mails_to(mail_server, ADDRESS), "the mail")
    assert suspect.url in text
    assert "contacts claimant? <b> has filed" in text
    link = re.search(r"\S+/d/[0-9a-f]{64}", text)
    assert link is not None
    assert link[0] == claimant.client.get(f"/v1/disputes/{dispute_id}/accused")["link"]
    page = tab.go(f"/disputes/{dispute_id}/contact")
    page.get_by_text("The mail was written").wait_for()
    tab.check()
    # The address is forgotten, and stands in nothing that is handed on.
    contact = claimant.client.get(f"/v1/disputes/{dispute_id}/accused")["contact"]
    assert (contact["address"], contact["state"]) == (None, "mailed")
    assert ADDRESS.encode() not in claimant.client.download(f"/v1/disputes/{dispute_id}/evidence")
    again = refused(lambda: name(claimant, dispute_id, "other@contacts.example"))
    assert (again.status, again.problem_code) == (409, "conflict")
    page.goto(link[0])
    assert ADDRESS not in page.content()


def name(claimant: Claimant, dispute_id: str, address: str) -> object:
    return claimant.client.put(f"/v1/disputes/{dispute_id}/accused/contact", {"address": address})


def test_an_address_that_comes_late_is_written_to_at_once_and_strangers_name_none(
    service: Service, mail_server: MailServer, claimant: Claimant
) -> None:
    late = f"{sha256(b'late').hex()[:8]}@contacts.example"
    with SuspectSimulator(claimant.stolen(1.0)) as suspect:
        dispute = claimant.answer_until_decided(claimant.file(suspect, family="second", covers_per_trigger=0))
    stranger = sign_up(service, "contacts stranger")
    assert refused(lambda: name(stranger, dispute["id"], late)).status == 404
    for wrong in ("", "a b@example.org", "a@example.org\r\nBcc: b@example.org", "x" * 300 + "@example.org"):
        assert refused(lambda: name(claimant, dispute["id"], wrong)).status == 422  # noqa: B023
    assert mails_to(mail_server, late) == []
    name(claimant, dispute["id"], late)
    assert len(wait_until(lambda: mails_to(mail_server, late), "the mail")) == 1
