"""The page's files: what is vendored is what it says, nothing is asked of another host, and all of it stays small."""

import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.page.static_files import FOLDER, MEDIA_TYPES, StaticFiles

MAX_PAGE_BYTES = 150_000
MAX_SENT_BYTES = 60_000  # to a browser, which takes texts compressed
ROOT = Path(__file__).parents[3]
VENDORED = json.loads((FOLDER / "vendored.json").read_text())


def test_what_is_vendored_is_what_was_published() -> None:
    """And nothing else is: a file that is neither ours nor named is a stranger."""
    named = {one["file"] for one in VENDORED}
    stored = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert named == {name for name in stored if name.startswith(("vendor/", "swagger/")) and "LICENSE" not in name}
    notice = (ROOT / "NOTICE").read_text()
    for one in VENDORED:
        data = (FOLDER / one["file"]).read_bytes()
        plain = gzip.decompress(data) if one["file"].endswith(".gz") else data
        assert hashlib.sha256(plain).hexdigest() == one["sha256"], one["file"]
        assert one["version"] and one["licence"] and one["source"].startswith("npm ")
        assert one["project"] in notice, f"NOTICE does not name {one['project']}"


def test_the_page_is_below_its_size() -> None:
    """All but Swagger UI, which is of `/docs` alone."""
    files = StaticFiles()
    names = [name for name in files.names() if not name.startswith("swagger/")]
    found = {name: file for name in names if (file := files.find(name))}
    assert {"index.html", "app.js", "style.css", "vendor/htm-preact.js"} <= set(found)
    sizes = {name: len(file.plain) for name, file in found.items()}
    assert sum(sizes.values()) < MAX_PAGE_BYTES, sizes
    assert sum(len(file.data) for file in found.values()) < MAX_SENT_BYTES


def test_no_file_names_another_host_or_says_anything_inline() -> None:
    for path in FOLDER.rglob("*"):
        if path.suffix in (".js", ".css", ".html") and path.parent.name != "vendor":
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|//[a-z]+\.", text), path.name
            assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=\"", text), path.name


def test_every_module_that_is_asked_for_is_there() -> None:
    files = StaticFiles()
    asked = {name for text in _sources() for name in re.findall(r'from "\./([\w./-]+)"', text)}
    asked |= set(re.findall(r'ui/\{version\}/([\w./-]+)"', " ".join(_sources())))
    assert len(asked) > 10
    assert [name for name in asked if files.find(name) is None] == []


def test_a_browser_learns_of_all_modules_from_the_document() -> None:
    """None waits until another that imports it was read."""
    document = StaticFiles().document("index.html", "./").data.decode()
    preloaded = re.findall(r'<link rel="modulepreload" href="ui/\w+/([\w./-]+)">', document)
    imported = {name for text in _sources() for name in re.findall(r'"\./([\w./-]+\.js)"', text)}
    assert len(preloaded) == len(set(preloaded)) > 10 and set(preloaded) == imported


def test_both_languages_have_every_text_that_is_used() -> None:
    texts = (FOLDER / "texts.js").read_text()
    pairs = re.findall(r'^  "?([\w/-]+)"?: \[((?:"(?:[^"\\]|\\.)*",?\s*)+)\]', texts, re.MULTILINE)
    assert len(pairs) > 100
    for name, values in pairs:
        english, chinese = re.findall(r'"((?:[^"\\]|\\.)*)"', values)
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), name
    known = {name for name, _ in pairs}
    used = {name for text in _sources() for name in re.findall(r'\bt\("(\w+)"', text)}
    assert len(used) > 80 and used <= known, used - known


def test_files_have_types_and_a_version_that_changes_with_them(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "b.css.gz").write_bytes(gzip.compress(b"body {}"))
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / "index.html").write_text('<base href="{base}">{modules}<script src="ui/{version}/a.js">')
    files = StaticFiles(tmp_path)
    assert files.names() == ["a.js", "b.css", "index.html"]
    found = files.find("b.css")
    assert found is not None and found.is_gzip and found.plain == b"body {}" and found.media_type.startswith("text/css")
    told = files.document("index.html", "../").data.decode()
    assert told == f'<base href="../"><script src="ui/{files.version}/a.js">'
    (tmp_path / "a.js").write_text("2")
    assert StaticFiles(tmp_path).version != files.version
    assert files.find("../static_files.py") is None and set(MEDIA_TYPES) >= {".js", ".css", ".html"}


@pytest.mark.own_process
def test_what_is_read_is_packaged(tmp_path: Path) -> None:
    """As setuptools counts it, which images install."""
    code = (
        "import tomllib, glob, sys; data = tomllib.load(open('pyproject.toml', 'rb'))['tool']['setuptools']"
        "['package-data']['service']; print(*(name for one in data for name in glob.glob(one, root_dir='service',"
        " recursive=True)), sep='\\n')"
    )
    packaged = set(
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.split()
    )
    stored = {path.relative_to(ROOT / "service").as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert stored and stored <= packaged


def _sources() -> list[str]:
    return [path.read_text() for path in [*FOLDER.glob("*.js"), *FOLDER.glob("*.html")]]
