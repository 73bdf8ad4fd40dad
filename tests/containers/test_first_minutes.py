"""A person's first five minutes: a bare machine, one command that asks nothing, a browser, an answer, a picture.

Minutes of installing, so that it runs by itself: `make first-minutes`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.bare_machine import BareMachine
from tests.containers.conftest import Table
from tests.containers.deployment import ROOT
from tests.containers.engine import run

URL = "http://127.0.0.1:8000"  # what the README says, on this machine too
FIRST_S = 300.0  # page, answer and picture, from the command on
INSTALL_LIMIT_S = 1200.0


@pytest.fixture
def machine() -> Iterator[BareMachine]:
    root = Path(tempfile.mkdtemp(prefix="viscpm-bare-"))
    try:
        yield BareMachine(root)
    finally:
        shutil.rmtree(root)


def test_one_command_then_an_answer_and_a_picture(machine: BareMachine, tmp_path: Path, table: Table) -> None:
    from playwright.sync_api import expect

    from tests.ops.page.browser import chromium, visit

    assert not _answers("/health/live"), f"something else answers on {URL}"
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(machine.root / "srv/viscpm"))
    log = tmp_path / "log"
    with chromium() as browser, machine.running("cd /srv/viscpm && make serve", log) as command:
        began_s = time.monotonic()

        def reached(what: str) -> None:
            table.add(f"make serve on a bare machine, until {what}", time.monotonic() - began_s, "s")

        def wait(condition: Callable[[], bool]) -> None:
            while not condition():
                assert command.poll() is None and time.monotonic() - began_s < INSTALL_LIMIT_S, log.read_text()[-3000:]
                time.sleep(0.1)

        wait(lambda: _answers("/"))
        reached("the page is there")
        with visit(browser, URL, "status of 503") as visited:  # the page is there before the models are
            page = visited.open()
            wait(lambda: _answers("/health/ready"))
            reached("it is ready")
            page.locator(".example").first.click()
            expect(page.locator(".answer")).to_contain_text("apple")
            expect(page.locator(".actions").first).to_be_visible()
            reached("the first answer")
            page.get_by_role("link", name="Paint").click()
            page.get_by_role("button", name="snowman").click()
            page.locator(".request .big").click()
            painting = page.locator(".painting").first
            expect(painting).to_have_attribute("data-state", "done")
            assert painting.locator("img").first.evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 0
            reached("the first picture")
    assert f"ready on {URL}" in log.read_text()
    assert command.returncode is not None and not _answers("/health/live"), "Ctrl-C did not stop it"
    assert table.rows["make serve on a bare machine, until the first picture"][0] < FIRST_S


def _answers(path: str) -> bool:
    try:
        return httpx.get(f"{URL}{path}", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
