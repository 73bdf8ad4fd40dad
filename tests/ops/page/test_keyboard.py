"""The page by keyboard alone, with where one is always to be seen, and without motion."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ops.page.acts import ask
from tests.ops.page.browser import visit

MAX_STOPS = 25


def tab_to(page: Page, is_there: Callable[[], bool]) -> list[str]:
    """Tab until there; the stops on the way that do not show that they have the focus."""
    unseen = []
    for _ in range(MAX_STOPS):
        page.keyboard.press("Tab")
        if not _is_marked(page):
            unseen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 120)"))
        if is_there():
            return unseen
    raise AssertionError(f"not reached in {MAX_STOPS} stops")


def _is_marked(page: Page) -> bool:
    """Whether what is around the focused element looks otherwise without the focus."""
    focused = page.evaluate_handle("document.activeElement").as_element()
    assert focused is not None
    focused.scroll_into_view_if_needed()
    shots = []
    for act in ("focus", "blur"):
        focused.evaluate(f"(one) => one.{act}()")
        shots.append(page.screenshot(animations="disabled"))
    focused.evaluate("(one) => one.focus()")
    return shots[0] != shots[1]


def is_focused(page: Page, selector: str) -> Callable[[], bool]:
    return lambda: bool(page.evaluate("(selector) => document.activeElement.matches(selector)", selector))


def test_from_the_load_to_a_question(browser: Browser, screened_url: str) -> None:
    with visit(browser, screened_url) as visited:
        page = visited.open()
        assert tab_to(page, is_focused(page, ".skip")) == []
        page.keyboard.press("Enter")
        assert tab_to(page, is_focused(page, ".line textarea")) == []
        page.keyboard.type("echo by keyboard")
        assert tab_to(page, is_focused(page, ".line .main")) == []
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_have_text("by keyboard")
        expect(page.locator(".line textarea")).to_be_focused()
        page.keyboard.type("echo again")
        page.keyboard.press("Enter")
        expect(page.locator(".answer").last).to_have_text("again")


def test_an_example(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert tab_to(page, is_focused(page, ".example")) == []
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_contain_text("apple")
        expect(page.locator(".line textarea")).to_be_focused()


def test_from_the_load_to_a_painting(browser: Browser, screened_url: str) -> None:
    with visit(browser, screened_url) as visited:
        page = visited.open()
        assert tab_to(page, is_focused(page, "[href='#paint']")) == []
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Paint a picture")
        assert tab_to(page, is_focused(page, ".request textarea")) == []
        page.keyboard.type("by keyboard")
        assert tab_to(page, is_focused(page, "[name=count]")) == []
        page.keyboard.press("ArrowRight")
        assert tab_to(page, is_focused(page, ".request summary")) == []
        assert tab_to(page, is_focused(page, ".request .big")) == []
        page.keyboard.press("Enter")
        newest = page.locator(".painting", has_text="by keyboard").first
        expect(newest.locator("figure")).to_have_count(2)
        assert tab_to(page, is_focused(page, ".enlarge")) == []
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.locator(".enlarge").first).to_be_focused()


@pytest.mark.parametrize("wish", ["reduce", "no-preference"])
def test_nothing_moves_where_that_is_wished_for(browser: Browser, screened_url: str, wish: str) -> None:
    with visit(browser, screened_url, reduced_motion=wish) as visited:
        page = visited.open()
        ask(page, "stream 2000")
        expect(page.locator(".pulse")).to_be_visible()
        moving = page.evaluate("document.getAnimations().length")
        assert moving == 0 if wish == "reduce" else moving > 0
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopped.")).to_be_visible()
