"""Paintings on the page: previews and steps, four candidates, a gallery that a reload does not empty."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.ops.page.browser import visit

LONG = "100"  # steps: four pictures of them are as much as one request may ask of the checkpoint in the box


def fill(page: Page, prompt: str, count: int = 1, **settings: str) -> None:
    page.get_by_label("What to paint").fill(prompt)
    page.get_by_role("radio", name=str(count), exact=True).check(force=True)
    if settings and not page.locator(".request details").get_attribute("open"):
        page.get_by_text("More settings").click()
    for name, value in settings.items():
        page.get_by_label(name.replace("_", " "), exact=True).fill(value)


def paint(page: Page) -> None:
    page.locator(".request .big").click()


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
