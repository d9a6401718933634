"""Registering while sessions end, tabs stand beside each other, the beacon is late, or the person thinks better of it."""

from pathlib import Path
from uuid import UUID

from tests.flows.claimant import Service
from tests.portal.conftest import Tab, sign_in
from tests.portal.registering import become_vendor, read, ready, register


def test_a_session_that_ends_in_mid_form_loses_nothing(maker: Tab, service: Service, tmp_path: Path):
    become_vendor(maker, tmp_path, "Absent Ltd")
    maker.go("/registrations")
    maker.page.get_by_text("You have registered no watermark yet").wait_for()
    maker.check()
    vendor_id = UUID(read(maker.page, "/v1/vendors/me")["id"])
    page = maker.go("/registrations/new")
    key = ready(page, tmp_path)
    other = Tab(page.context.new_page(), maker.origin, maker.faults)
    other.go("/").get_by_role("button", name="Sign out").click()
    other.page.get_by_role("button", name="Sign out").wait_for(state="detached")
    register(page)
    page.locator("#problem").get_by_text("sign in again in another tab").wait_for()
    sign_in(other, service, vendor_id, "Bo")
    register(page)
    page.get_by_role("heading", name="Watermark of 11 triggers").wait_for()
    page.get_by_text(key.root().hex()).wait_for()


def test_two_tabs_that_make_keys_do_not_mix_and_a_beacon_is_waited_for(maker: Tab, service: Service, tmp_path: Path):
    become_vendor(maker, tmp_path, "Twice Ltd")
    tabs = [maker, Tab(maker.page.context.new_page(), maker.origin, maker.faults)]
    keys = []
    for at, each in enumerate(tabs):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "vendor.key").write_bytes((tmp_path / "vendor.key").read_bytes())
        keys.append(ready(each.go("/registrations/new"), folder))
    assert keys[0].master != keys[1].master
    assert not set(keys[0].inputs) & set(keys[1].inputs)
    service.kill("worker")
    try:
        for each, key in zip(tabs, keys, strict=True):
            register(each.page)
            each.page.get_by_text(key.root().hex()).wait_for()
            each.page.get_by_text("The beacon that draws the labels follows").wait_for()
        maker.check()
        maker.check_phone()
        tabs[1].go("/registrations").get_by_text("awaiting the beacon").first.wait_for()
        tabs[1].check()
    finally:
        service.start_worker()
    maker.page.get_by_role("heading", name="Labels").wait_for()


def test_the_making_can_be_cancelled_and_too_many_are_refused(maker: Tab, tmp_path: Path):
    become_vendor(maker, tmp_path, "Hasty Ltd")
    page = maker.go("/registrations/new")
    make = page.get_by_role("button", name="Make the triggers")
    page.get_by_label("Abstract").fill("4096")
    make.click()
    page.locator("#problem").get_by_text("4160 triggers of this shape are too many").wait_for()
    page.get_by_label("Noise").fill("0")
    make.click()
    page.get_by_text("Drawing abstract pictures").wait_for()
    maker.check()
    page.get_by_role("button", name="Cancel").click()
    page.locator("#problem").get_by_text("cancelled: no key was made").wait_for()
    page.get_by_role("button", name="Cancel").wait_for(state="hidden")
    page.get_by_role("button", name="Sign and register").wait_for(state="hidden")
    assert make.is_enabled()
