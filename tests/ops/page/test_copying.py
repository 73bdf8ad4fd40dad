"""What is copied from the page: answers, and requests that a shell sends as the page would."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.debian import absent
from tests.ops.page.acts import APPLE, ask, enter_key, fill
from tests.ops.page.browser import visit
from tests.ops.page.conftest import PREFIX
from tests.service.api_process import ApiProcess

CLIPBOARD = ["clipboard-read", "clipboard-write"]


def copied(page: Page) -> str:
    page.locator(".curl").get_by_role("button", name="Copy").click()
    expect(page.locator(".curl")).to_contain_text("Copied")
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def answer_of(command: str, folder: Path, **variables: str) -> dict[str, Any]:
    if not shutil.which("curl"):
        absent("curl: apt-get install curl")
    environment = {**os.environ, "no_proxy": "127.0.0.1", **variables}
    ran = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def test_a_question_with_a_picture_and_a_talk_that_goes_on(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, permissions=CLIPBOARD) as visited:
        page = visited.open()
        page.get_by_text("Settings").click()
        page.get_by_label("Beams").fill("1")
        page.get_by_label("Choose a picture").set_input_files(APPLE)
        page.locator(".line textarea").fill("What's in the picture?")
        answer = answer_of(copied(page), APPLE.parent)
        page.keyboard.press("Escape")
        page.locator(".line textarea").press("Enter")
        expect(page.locator(".answer")).to_have_text(answer["answer"])
        assert answer["object"] == "chat.answer" and answer["image"]

        page.get_by_text("Settings").click()
        page.locator(".line textarea").fill("What colour is it?")
        later = answer_of(copied(page), APPLE.parent)
        assert later["image"], "the talk's picture goes with it"
        assert later["conversation_id"] != answer["conversation_id"]


def test_a_painting(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, permissions=CLIPBOARD) as visited:
        page = visited.open("#paint")
        fill(page, "a cat's face", 2, Seed="40", Steps="3", Size="64x64", What_to_leave_out='a "dog"')
        answer = answer_of(copied(page), APPLE.parent)
        assert answer["object"] == "paint.answer" and answer["size"] == "64x64"
        assert [one["seed"] for one in answer["data"]] == [40, 41]


def test_a_request_with_a_key(browser: Browser, scripted: ApiProcess, api_key: str) -> None:
    """The key itself is not in it."""
    with visit(browser, scripted.url, "status of 401", permissions=CLIPBOARD) as visited:
        page = visited.open(f"{PREFIX[1:]}/")
        enter_key(page, api_key)
        page.get_by_text("Settings").click()
        page.locator(".line textarea").fill("echo it's 你好")
        command = copied(page)
        assert api_key not in command
        assert answer_of(command, APPLE.parent, VISCPM_API_KEY=api_key)["answer"] == "it's 你好"


@pytest.mark.parametrize("is_secure", [True, False])
def test_an_answer(browser: Browser, screened_url: str, is_secure: bool) -> None:
    """Over plain http from another machine there is no `navigator.clipboard`."""
    with visit(browser, screened_url, permissions=CLIPBOARD) as visited:
        if not is_secure:
            visited.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        page = visited.open()
        ask(page, "echo 一只猫 and a dog")
        button = page.locator(".turn").get_by_role("button", name="Copy")
        button.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".actions")).to_contain_text("Copied")
        expect(page.locator(".action").first).to_be_focused()
        page.locator(".line textarea").focus()
        page.keyboard.press("Control+V")
        expect(page.locator(".line textarea")).to_have_value("一只猫 and a dog")
