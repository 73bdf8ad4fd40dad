"""What a built page loads from another host is found, and links that a reader follows are not."""

from pathlib import Path

import pytest

from docs.site.offline import loads_from_elsewhere, main

FREE = (
    '<a href="https://example.org">go</a><script src="a.js"></script><link rel="stylesheet" href="a.css">'
    '<link rel="canonical" href="https://example.org/"><img src="data:image/png;base64,AA"><pre>curl https://x.org</pre>'
)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", FREE, []),
        ("a.html", '<script src="https://cdn.example.org/a.js">', ["https://cdn.example.org/a.js"]),
        ("a.html", '<img src="//example.org/a.png">', ["//example.org/a.png"]),
        ("a.html", '<img srcset="a.png 1x, https://example.org/b.png 2x">', ["https://example.org/b.png"]),
        ("a.html", '<link rel="preconnect" href="https://fonts.example">', ["https://fonts.example"]),
        ("a.html", '<p style="background:url(https://example.org/c.png)">', ["https://example.org/c.png"]),
        ("a.css", 'a{src:url("https://example.org/f.woff2")}b{src:url(f.woff2)}', ["https://example.org/f.woff2"]),
        ("a.css", '@import "//example.org/a.css";', ["//example.org/a.css"]),
        ("a.js", "fetch('https://example.org/x')", ["https://example.org/x"]),
        ("a.js", 'const home = "https://example.org"; fetch("/x")', []),
    ],
)
def test_loads_from_elsewhere(tmp_path: Path, name: str, text: str, found: list[str]) -> None:
    (tmp_path / name).write_text(text)
    assert loads_from_elsewhere(tmp_path) == [f"{name}: {address}" for address in found]


def test_it_fails_for_a_load_and_for_nothing_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 1
    (tmp_path / "index.html").write_text(FREE)
    assert main(tmp_path) == 0
    (tmp_path / "bad.html").write_text('<iframe src="https://example.org">')
    assert main(tmp_path) == 1
    assert "bad.html: https://example.org" in capsys.readouterr().out
