"""Talks on the page, with the checkpoint in the box; and with a slow scripted model what takes time to see."""

import re

from playwright.sync_api import Browser, expect

from tests.ops.page.acts import APPLE, answers, ask, drop, enter_key
from tests.ops.page.browser import PHONE, ROOT, visit
from tests.ops.page.conftest import PREFIX
from tests.ops.page.severable_proxy import SeverableProxy

NOT_A_PICTURE = ROOT / "pyproject.toml"


def test_a_talk_in_chinese_about_a_picture_that_was_dropped(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, locale="zh-CN") as visited:
        page = visited.open()
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.get_by_role("heading", level=1)).to_have_text("就一张图片提问")
        drop(page, APPLE, "main")
        expect(page.get_by_alt_text("随问题发送的图片")).to_be_visible()
        ask(page, "图里有什么？")
        expect(page.locator(".answer").first).to_contain_text("红苹果")
        ask(page, "用英文怎么说？")
        expect(page.locator(".answer").nth(1)).to_contain_text("red apple")
        first, second = answers(page)
        expect(page.locator(".talks li.current")).to_contain_text("图里有什么？")  # named after its first question
        visited.shoot("talk_zh")

        page.get_by_role("button", name="换个回答").click()
        expect(page.locator(".answer").nth(1)).to_contain_text("apple")
        assert answers(page)[0] == first
        known = page.locator(".talks li").count()  # other tests' talks too: without keys all are one tenant
        page.get_by_role("button", name="从这里分支").first.click()
        expect(page.locator(".turn")).to_have_count(1)
        assert answers(page) == [first]
        expect(page.locator(".talks li")).to_have_count(known + 1)


def test_talks_are_listed_renamed_exported_brought_back_and_deleted(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open()
        page.get_by_role("button", name="What is on the left?").click()
        expect(page.locator(".answer")).to_contain_text("cat face")
        ask(page, "What is on the right?")
        expect(page.locator(".answer").nth(1)).to_contain_text("dog face")
        current = page.locator(".talks li.current")
        expect(current).to_contain_text("2 turns")
        visited.shoot("talk")
        current.get_by_role("button", name=re.compile("What to do")).click()
        page.get_by_role("button", name="Rename").click()
        page.get_by_role("textbox", name="Name").fill("Left and right")
        page.get_by_role("button", name="Save").click()
        expect(current).to_contain_text("Left and right")

        current.get_by_role("button", name=re.compile("What to do")).click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        assert download.value.suggested_filename == "Left and right.json"
        page.reload()  # its picture comes back as the model sees it
        page.get_by_role("button", name=re.compile("^Left and right")).first.click()
        expect(page.get_by_alt_text("the picture of this talk, as the model sees it")).to_be_visible()
        current.get_by_role("button", name=re.compile("What to do")).click()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator(".talks li", has_text="Left and right")).to_have_count(0)
        page.get_by_label("Import a talk").set_input_files(download.value.path())
        expect(page.locator(".answer").first).to_contain_text("cat face")
        expect(current).to_contain_text("Left and right")


def test_a_picture_from_the_clipboard(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, permissions=["clipboard-read", "clipboard-write"]) as visited:
        page = visited.open()
        page.evaluate(
            """async (url) => {
                const copied = await (await fetch(url)).blob();
                await navigator.clipboard.write([new ClipboardItem({ "image/png": copied })]);
            }""",
            page.locator(".example img").first.get_attribute("src"),
        )
        page.locator(".line textarea").focus()
        page.keyboard.press("Control+V")
        expect(page.get_by_alt_text("the picture that goes with your question")).to_be_visible()
        expect(page.locator(".line textarea")).to_have_value("")
        ask(page, "What is in the picture?")
        expect(page.locator(".answer")).to_contain_text("apple")


def test_a_photograph_on_a_phone(browser: Browser, service_url: str) -> None:
    """A phone opens its camera for an input that captures; a desk has no such button."""
    with visit(browser, service_url, viewport=PHONE, has_touch=True, is_mobile=True) as visited:
        page = visited.open()
        camera = page.get_by_label("Take a photo", exact=True).locator("visible=true").last
        expect(camera).to_have_attribute("capture", "environment")
        expect(camera).to_have_attribute("accept", "image/*")
        with page.expect_file_chooser() as chooser:
            camera.tap()
        chooser.value.set_files(APPLE)
        expect(page.get_by_alt_text("the picture that goes with your question")).to_be_visible()
        ask(page, "What is in the picture?")
        expect(page.locator(".answer")).to_contain_text("apple")
    with visit(browser, service_url) as visited:
        expect(visited.open().locator("input[capture]")).to_be_hidden()


def test_what_is_no_picture_is_told_in_a_sentence(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, "status of 400") as visited:
        page = visited.open()
        page.get_by_label("Choose a picture").set_input_files(NOT_A_PICTURE)
        ask(page, "What is this?")
        expect(page.get_by_role("alert")).to_contain_text("cannot be read as a picture. Choose a PNG")
        page.get_by_label("Import a talk").set_input_files(NOT_A_PICTURE)
        expect(page.get_by_role("alert").last).to_have_text(
            "This file holds no talk. Choose one that “Export” has made."
        )


def test_a_long_question_names_its_talk_by_its_beginning(browser: Browser, screened_url: str) -> None:
    with visit(browser, screened_url) as visited:
        page = visited.open()
        ask(page, "echo " + "words without end " * 9)
        named = page.locator(".talks li.current .talk-name span")
        expect(named).to_have_text(("echo " + "words without end " * 4).strip() + "…")
        expect(page.locator(".talk-title")).to_have_count(0)  # the question is there to read


def test_settings_and_the_same_request_on_a_command_line(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url) as visited:
        page = visited.open()
        page.get_by_text("Settings").click()
        page.get_by_label("Beams").fill("1")
        page.get_by_label("Length, in tokens").fill("3")
        page.get_by_label("Choose a picture").set_input_files(APPLE)
        page.locator(".line textarea").fill("What's in the picture?")
        told = page.locator(".curl pre").inner_text()
        assert "-F image=@'apple.png'" in told and "-F 'num_beams=1'" in told and "What'\\''s in" in told
        page.locator(".curl").scroll_into_view_if_needed()
        visited.shoot("talk_settings")
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_text("The answer reached its longest length")).to_be_visible()


def test_a_refused_question_in_words(browser: Browser, service_url: str) -> None:
    with visit(browser, service_url, "status of 400") as visited:
        page = visited.open()
        ask(page, "How do I build a bomb at home?")
        expect(page.get_by_role("alert")).to_contain_text("Not allowed: this looks like help with weapons")
        visited.shoot("talk_refused")


def test_the_key_is_asked_for_once_and_kept_in_the_tab(browser: Browser, proxy: SeverableProxy, api_key: str) -> None:
    with visit(browser, proxy.url, "status of 401") as visited:
        page = visited.open(f"{PREFIX[1:]}/ui/")
        expect(page.get_by_role("dialog")).to_contain_text("asks for a key")
        visited.shoot("key")
        enter_key(page, "vk-wrong")
        expect(page.get_by_role("dialog")).to_contain_text("not known here")
        enter_key(page, api_key)
        ask(page, "echo 你好")
        expect(page.locator(".answer")).to_have_text("你好")
        page.reload()
        page.locator(".talks li").first.wait_for()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.get_by_role("button", name="Forget the key").click()
        expect(page.get_by_role("dialog")).to_contain_text("asks for a key")


def test_stopped_lost_and_left_answers(browser: Browser, proxy: SeverableProxy, api_key: str) -> None:
    """Stop ends the job; a cut connection and a reload do not, and no word is lost or doubled."""
    with visit(browser, proxy.url, "status of 401", "net::ERR_") as visited:
        page = visited.open(f"{PREFIX[1:]}")
        enter_key(page, api_key)
        ask(page, "stream 300")
        expect(page.locator(".answer")).to_contain_text("w2")
        expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopped.")).to_be_visible()
        assert "w150" not in page.locator(".answer").inner_text()

        page.get_by_role("button", name="New talk").first.click()
        ask(page, "stream 40")
        expect(page.locator(".answer")).to_contain_text("w3")
        proxy.sever()
        expect(page.get_by_text("The connection is lost. Coming back to it")).to_be_visible()
        visited.shoot("talk_lost")
        proxy.mend()
        assert answers(page) == ["".join(f"w{i} " for i in range(40))]

        ask(page, "stream 40")
        expect(page.locator(".answer").nth(1)).to_contain_text("w3")
        page.reload()
        expect(page.locator(".answer")).to_have_count(2)
        assert answers(page)[1].split() == [f"w{i}" for i in range(40)]
