"""Paintings on the page: previews and steps, four candidates, a gallery that a reload does not empty."""

import re

from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from tests.ops.page.acts import enter_key, fill, paint
from tests.ops.page.browser import visit
from tests.ops.page.conftest import PREFIX
from tests.ops.page.severable_proxy import SeverableProxy

LONG = "100"  # steps: four pictures of them are as much as one request may ask of the checkpoint in the box


def test_four_candidates_with_steps_and_previews_through_a_reload(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open("#paint")
        fill(page, "a red apple on a blue background", 4, Steps=LONG, Seed="7")
        paint(page)
        running = page.locator(".painting[data-state=running]")
        expect(running).to_contain_text(re.compile(r"Step \d+ of 100"))
        expect(running.get_by_alt_text("Preview of picture 1")).to_be_visible()
        expect(running).to_contain_text(re.compile(r"about \d+ s left"))
        page.evaluate("scrollTo(0, 0)")
        visited.shoot("paint_progress")

        page.reload()
        expect(running.get_by_role("heading")).to_have_text("a red apple on a blue background")
        expect(running).to_contain_text(re.compile(r"Step \d+ of 100"))
        pictures = page.locator(".painting[data-state=done]").first.locator("figure")
        expect(pictures).to_have_count(4)
        expect(pictures.locator("figcaption")).to_have_text(["seed 7", "seed 8", "seed 9", "seed 10"])
        visited.shoot("paint")

        page.reload()
        expect(pictures).to_have_count(4)
        expect(pictures.first.get_by_role("img")).to_have_js_property("naturalWidth", 64)


def test_a_state_that_is_told_late_changes_no_painting_that_has_ended(browser: Browser, service_url: str) -> None:
    late: list[tuple[Route, APIResponse]] = []

    def hold_the_first(route: Route) -> None:
        if late:
            route.continue_()
        else:
            late.append((route, route.fetch()))

    with visit(browser, service_url) as visited:
        page = visited.open("#paint")
        page.route(re.compile(r"/jobs/paint-[^/]+$"), hold_the_first)
        fill(page, "snowman", 1, Steps=LONG)
        paint(page)
        painting = page.locator(".painting").first
        expect(painting).to_have_attribute("data-state", "done")
        [(route, told)] = late
        assert told.json()["state"] in ("queued", "running")
        with page.expect_response(re.compile(r"/jobs/paint-[^/]+$")):
            route.fulfill(response=told)
        page.wait_for_timeout(200)
        expect(painting).to_have_attribute("data-state", "done")


def test_enlarged_downloaded_painted_again_and_talked_about(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open("#paint")
        expect(page.locator(".chip").first).to_be_visible()
        page.get_by_role("button", name="snowman").click()
        page.get_by_role("radio", name="2", exact=True).check(force=True)
        page.get_by_text("More settings").click()
        page.get_by_label("Seed", exact=True).fill("40")
        told = page.locator(".curl pre").inner_text()
        assert '{"prompt":"snowman","n":2,"seed":40}' in told
        paint(page)
        newest = page.locator(".painting").first
        expect(newest).to_have_attribute("data-state", "done")
        newest.locator(".enlarge").nth(1).click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("seed 41")
        visited.shoot("paint_enlarged")
        page.keyboard.press("ArrowLeft")
        expect(dialog).to_contain_text("seed 40")
        with page.expect_download() as download:
            dialog.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "viscpm-40.png"
        dialog.get_by_role("button", name="Again with this seed").click()
        expect(page.get_by_text("The seed is set to 40.")).to_be_visible()
        expect(page.get_by_label("What to paint")).to_be_focused()
        newest.locator(".enlarge").first.click()
        dialog.get_by_role("button", name="Talk about this picture").click()
        expect(page.get_by_alt_text("the picture that goes with your question")).to_be_visible()
        page.keyboard.type("What is this?")
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_contain_text(re.compile(r"\w"))


def test_what_is_refused_or_cannot_be_painted_is_told_in_words(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, "status of 400", locale="zh-CN") as visited:
        page = visited.open("#paint")
        for prompt, told in (("一个裸体的女人", "不予处理：内容涉及色情内容"), ("🍎", "模型不认识这些词")):
            page.get_by_label("画什么").fill(prompt)
            paint(page)
            expect(page.get_by_role("alert").first).to_contain_text(told)
        page.get_by_text("更多设置").click()
        page.get_by_label("尺寸").fill("100x100")
        paint(page)
        expect(page.get_by_role("alert").first).to_contain_text("模型不支持此尺寸")
        page.get_by_text("更多设置").click()
        page.evaluate("scrollTo(0, 0)")
        visited.shoot("paint_refused_zh")


def test_a_painting_that_is_stopped_leaves_no_card(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open("#paint")
        fill(page, "cat face", 4, Steps=LONG)
        paint(page)
        running = page.locator(".painting[data-state=running]")
        running.get_by_role("button", name="Stop").click()
        expect(running).to_have_count(0)


def test_a_painting_goes_on_after_a_lost_connection(browser: Browser, proxy: SeverableProxy, api_key: str) -> None:
    with visit(browser, proxy.url, "status of 401", "net::ERR_") as visited:
        page = visited.open(f"{PREFIX[1:]}/#paint")
        enter_key(page, api_key)
        fill(page, "paint 30", 2, Seed="5")
        paint(page)
        newest = page.locator(".painting").first
        expect(newest).to_contain_text(re.compile(r"Step \d+ of 30"))
        proxy.sever()
        expect(newest).to_contain_text("The connection is lost")
        proxy.mend()
        expect(newest.locator("figcaption")).to_have_text(["seed 5", "seed 6"])
        page.get_by_role("button", name="Forget the key").click()
        expect(page.get_by_role("dialog")).to_contain_text("asks for a key")
        assert _kept(page) == {}, "what was asked goes with the key"


def test_a_reload_keeps_prompts_and_settings(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open("#paint")
        settings = {"What_to_leave_out": "snow", "Size": "64x64", "Steps": "3", "Guidance": "2.5"}
        fill(page, "a hot air balloon", 2, Seed="70", **settings)
        paint(page)
        newest = page.locator(".painting").first
        expect(newest.locator("figure")).to_have_count(2)
        gone = {f"paint-{index}": {"prompt": "gone"} for index in range(300)}
        page.evaluate("(all) => localStorage.setItem('viscpm.prompts', JSON.stringify(all))", _kept(page) | gone)
        fill(page, "snowman", 1, Seed="")
        paint(page)
        expect(newest).to_have_attribute("data-state", "done")
        assert len(_kept(page)) == 200

        page.reload()
        expect(newest.get_by_role("heading")).to_have_text("snowman")
        balloon = page.locator(".painting").nth(1)
        expect(balloon.get_by_role("heading")).to_have_text("a hot air balloon")
        assert sorted(one["prompt"] for one in _kept(page).values()) == ["a hot air balloon", "snowman"]
        balloon.locator(".enlarge").nth(1).click()
        page.get_by_role("button", name="Again with this seed").click()
        expect(page.get_by_label("What to paint")).to_have_value("a hot air balloon")
        for name, value in settings.items():
            expect(page.get_by_label(name.replace("_", " "), exact=True)).to_have_value(value)
        paint(page)
        expect(newest.locator("figcaption")).to_have_text(["seed 71"])


def _kept(page: Page) -> dict[str, dict[str, str]]:
    kept: dict[str, dict[str, str]] = page.evaluate("JSON.parse(localStorage.getItem('viscpm.prompts')) || {}")
    return kept


def test_a_browser_that_keeps_nothing(browser: Browser, service_url: str) -> None:
    """As where a browser's settings block a site's data: naming the storage throws. Pictures go by their time."""
    blocked = "get() { throw new DOMException('denied', 'SecurityError') }"
    with visit(browser, service_url) as visited:
        for storage in ("localStorage", "sessionStorage"):
            visited.page.add_init_script(f"Object.defineProperty(window, '{storage}', {{ {blocked} }})")
        page = visited.open("#paint")
        fill(page, "snowman")
        paint(page)
        newest = page.locator(".painting").first
        expect(newest).to_have_attribute("data-state", "done")
        expect(newest.get_by_role("heading")).to_have_text("snowman")
        page.get_by_role("button", name="中文").click()
        page.get_by_role("button", name="English").click()
        page.reload()
        expect(newest.get_by_role("heading")).to_have_text(re.compile(r"Painted at \d"))
        newest.locator(".enlarge").click()
        page.get_by_role("button", name="Again with this seed").click()
        expect(page.get_by_text("The seed is set to")).to_be_visible()
        page.get_by_role("link", name="Talk").click()
        page.locator(".example").first.click()
        expect(page.locator(".answer")).to_contain_text("apple")
