"""The examples of the documents: what is in them, and how one is run against a service.

An example is a block in a fence that names a language which runs, or a block that is indented by four spaces. One that
no service can run has a comment before it, `<!-- not run: why -->`.
"""

import base64
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SHELL, PYTHON, JAVASCRIPT = ("bash", "sh"), ("python", "py"), ("javascript", "js", "mjs")
LIMIT_S = 60.0

_BLOCK = re.compile(
    r"(?P<mark><!-- not run: (?P<why>[^>]+) -->\n+)?"
    r"(?:^(?P<fence>`{3,})(?P<language>\w*)\n(?P<fenced>.*?)^(?P=fence)`*$"
    r"|(?<=\n\n)(?P<indented>(?: {4}[^\n]*\S[^\n]*\n(?:\n(?= {4}))?)+))",
    re.MULTILINE | re.DOTALL,
)


class Example(NamedTuple):
    page: str
    line: int
    language: str  # empty: indented
    text: str
    why_not: str  # it is not run; empty where it is

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """The English documents; the others have the same code (test_languages.py)."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if not page.name.endswith(".zh.md")]


def examples(page: Path) -> list[Example]:
    """Of a page: blocks whose language runs, and those that are indented."""
    return list(examples_in(page.read_text("utf-8"), page.relative_to(ROOT).as_posix()))


def examples_in(text: str, page: str) -> Iterator[Example]:
    """The same of its text."""
    for match in _BLOCK.finditer(text):
        if match["fence"] and match["language"] not in (*SHELL, *PYTHON, *JAVASCRIPT):
            continue
        line = text.count("\n", 0, match.start("fence" if match["fence"] else "indented")) + 1
        yield Example(page, line, match["language"] or "", match["fenced"] or match["indented"], match["why"] or "")


class Place(NamedTuple):
    """A service to ask, and a folder with the files that examples name."""

    url: str
    data_dir: Path
    folder: Path
    names: dict[str, str]  # what a document writes, and what stands for it here

    def here(self, text: str) -> str:
        """An example, its placeholders being what there is."""
        address = self.url.removeprefix("http://")
        for written in ("localhost:8000", "127.0.0.1:8000"):
            text = text.replace(written, address)
        for written, here in self.names.items():
            text = re.sub(written, here, text)
        return text


def prepare(folder: Path) -> None:
    """Files and commands that examples name: pictures, requests of a batch, `viscpm`, `curl` that fails on errors."""
    picture = (ROOT / "docs/images/red_apple_on_blue.png").read_bytes()
    for name in ("docs", "docker", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("house.png", "picture.png", "apple.png", "photo.png"):
        (folder / name).write_bytes(picture)
    line = (
        '{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", '
        '"body": {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is a cat?"}]}}\n'
    )
    (folder / "requests.jsonl").write_text(line)
    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"][
        "viscpm"
    ].partition(":")
    run = f"import sys; from {module} import {name}; sys.argv[0] = 'viscpm'; sys.exit({name}())"
    commands = {
        "viscpm": f'exec {sys.executable} -c "{run}" "$@"',
        "python": f'exec {sys.executable} "$@"',
        "curl": 'PATH=${PATH#*:} exec curl --fail-with-body "$@"',
    }
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for command, script in commands.items():
        (binaries / command).write_text(f"#!/bin/bash\n{script}\n")
        (binaries / command).chmod(0o755)


def run(example: Example, place: Place) -> subprocess.CompletedProcess[str]:
    """The example as it stands on its page, but for its placeholders."""
    text = place.here(example.text)
    if example.language in SHELL:
        command = ["bash", "-euo", "pipefail", "-c", text]
    elif example.language in PYTHON:
        command = [sys.executable, "-c", text]
    else:
        command = ["node", "--input-type=module", "-e", text]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VISCPM_")}
    environment = {
        **kept,
        "PATH": f"{place.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "VISCPM_DATA_DIR": str(place.data_dir),
        "VISCPM_URL": place.url,
        "VISCPM_PORT": place.url.rsplit(":", 1)[1],
    }
    return subprocess.run(
        command, cwd=place.folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def as_data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
