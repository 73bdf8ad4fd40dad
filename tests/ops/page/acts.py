"""What somebody does on the page: asks, paints, brings pictures and a key."""

from base64 import b64encode
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.ops.page.browser import ROOT

APPLE = ROOT / "service/page/static/examples/apple.png"


def ask(page: Page, question: str) -> None:
    """Once the answer before it is complete: until then the question stays where it was written."""
    expect(page.locator(".turn[data-state=running]")).to_have_count(0)
    page.locator(".line textarea").fill(question)
    page.keyboard.press("Enter")


def answers(page: Page) -> list[str]:
    expect(page.locator(".turn[data-state=running]")).to_have_count(0)
    return page.locator(".answer").all_inner_texts()


def fill(page: Page, prompt: str, count: int = 1, **settings: str) -> None:
    page.locator(".request textarea").fill(prompt)
    page.get_by_role("radio", name=str(count), exact=True).check(force=True)
    if settings and page.locator(".request details").get_attribute("open") is None:
        page.locator(".request summary").click()
    for name, value in settings.items():
        page.get_by_label(name.replace("_", " "), exact=True).fill(value)


def paint(page: Page) -> None:
    page.locator(".request .big").click()


def enter_key(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use this key").click()


def drop(page: Page, picture: Path, selector: str) -> None:
    """As from a file manager."""
    data = page.evaluate_handle(
        """async ([data, name]) => {
            const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            return transfer;
        }""",
        [b64encode(picture.read_bytes()).decode(), picture.name],
    )
    for name in ("dragover", "drop"):
        page.dispatch_event(selector, name, {"dataTransfer": data})
