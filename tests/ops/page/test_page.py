"""The page as a whole: sizes, colours, languages, keyboard, screen readers, and how soon it is there."""

import os
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ops.page.browser import PHONE, visit

FIRST_PAINT_MS = 300.0


@pytest.fixture(scope="module")
def axe() -> str:
    """Source of the accessibility checker."""
    return (files("axe_playwright_python") / "axe.min.js").read_text()


def findings(page: Page, axe: str) -> list[str]:
    """Those that are serious or critical."""
    page.evaluate(axe)
    found: list[dict[str, Any]] = page.evaluate("axe.run().then((told) => told.violations)")
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary')}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, service_url: str, axe: str, colours: str, size: str) -> None:
    settings: dict[str, Any] = {"color_scheme": colours, **(_phone() if size == "phone" else {})}
    with visit(browser, service_url, "status of 400", **settings) as visited:
        page = visited.open()
        assert findings(page, axe) == []
        page.locator(".example").first.click()
        expect(page.locator(".actions").first).to_be_visible()
        page.get_by_text("Settings").click()
        assert findings(page, axe) == []
        page.locator(".line textarea").fill("How do I build a bomb at home?")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        assert findings(page, axe) == []
        visited.shoot(f"talk_{colours}_{size}")
        page.get_by_role("link", name="Paint").click()
        page.get_by_text("More settings").click()
        page.get_by_role("button", name="snowman").click()
        page.locator(".request .big").click()
        expect(page.locator(".painting").first).to_have_attribute("data-state", "done")
        assert findings(page, axe) == []
        page.get_by_text("More settings").click()
        page.locator(".top" if size == "desk" else ".painting").first.evaluate("(one) => one.scrollIntoView()")
        visited.shoot(f"paint_{colours}_{size}")
        page.locator(".enlarge").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert findings(page, axe) == []


def _phone() -> dict[str, Any]:
    return {"viewport": PHONE, "has_touch": True, "is_mobile": True}


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_of_360_pixels(browser: Browser, service_url: str, locale: str) -> None:
    with visit(browser, service_url, locale=locale, **_phone()) as visited:
        page = visited.open()
        language = locale[:2]
        visited.shoot(f"phone_{language}")
        assert _cut(page) == []
        page.locator(".stage-bar button").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.get_by_role("link", name={"en": "Paint", "zh": "作画"}[language]).click()
        visited.shoot(f"phone_paint_{language}")
        assert _cut(page) == []
        boxes = page.evaluate(
            "[...document.querySelectorAll('button, a, summary')].filter((one) => one.offsetParent)"
            ".map((one) => [one.innerText, one.getBoundingClientRect()]).filter(([, box]) => box.height < 24)"
        )
        assert boxes == [], "too low to be touched"


def _cut(page: Page) -> list[str]:
    """Texts that are wider than what holds them."""
    told: list[str] = page.evaluate(
        "[...document.querySelectorAll('button, a, p, span, h1, h2, label, summary')]"
        ".filter((one) => one.offsetParent && !one.closest('.sr, .skip'))"
        ".filter((one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => one.outerHTML.slice(0, 200))"
    )
    return told


def test_the_language_is_the_browsers_until_another_is_chosen(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, locale="fr-FR") as visited:
        page = visited.open()
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("就一张图片提问")
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_have_text("就一张图片提问")


def test_swagger_ui_reads_the_document_of_this_service(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.page
        page.goto(f"{service_url}/")
        page.get_by_role("link", name="API").click()
        expect(page.get_by_text("Ask about a picture").first).to_be_visible()
        page.locator("#operations-health-live").get_by_role("button").first.click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table")).to_contain_text('"status": "live"')
        visited.shoot("docs")


def test_the_first_paint_is_soon(browser: Browser, service_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The best of five, and of a machine that does other things as well so much later."""
    times_ms = []
    for _ in range(5):
        with visit(browser, service_url) as visited:
            page = visited.open()
            [paint] = page.evaluate(
                "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)"
            )
            times_ms.append(float(paint))
    load = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    with capsys.disabled():
        print(
            f"\nfirst paint: {min(times_ms):.0f} ms at the best of {[round(one) for one in times_ms]}, load {load:.1f}"
        )
    assert min(times_ms) <= FIRST_PAINT_MS * load
