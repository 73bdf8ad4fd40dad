"""URLs: each host in one notation, and nothing that two readers could read apart."""

import pytest

from service.core.errors import BlockedUrl
from service.outbound.urls import Target, is_below, parse, redirected


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("http://example.org", ("http", "example.org", 80, b"/"), "example.org"),
        ("HTTPS://Example.ORG:443/A.png?b=c#d", ("https", "example.org", 443, b"/A.png?b=c"), "example.org"),
        ("http://example.org:8080?q", ("http", "example.org", 8080, b"/?q"), "example.org:8080"),
        ("http://8.8.8.8/图 .png".replace(" ", "%20"), ("http", "8.8.8.8", 80, b"/%E5%9B%BE%20.png"), "8.8.8.8"),
        ("https://例子.中国/", ("https", "xn--fsqu00a.xn--fiqs8s", 443, b"/"), "xn--fsqu00a.xn--fiqs8s"),
        ("http://[2606:4700::0:1]:80/", ("http", "2606:4700::1", 80, b"/"), "[2606:4700::1]"),
        ("http://a_b.example.org/", ("http", "a_b.example.org", 80, b"/"), "a_b.example.org"),
        ("http://example.org/@user:pass", ("http", "example.org", 80, b"/@user:pass"), "example.org"),
    ],
)
def test_plain_urls(url: str, target: tuple[str, str, int, bytes], authority: str) -> None:
    parsed = parse(url)
    assert parsed == Target(*target) and parsed.authority == authority


ODD = [
    "", "example.org", "//example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org:70/_",
    "http:example.org", "http:/example.org", "http://", "http:///x", "http://?x", "http://#x", "http://:80/",
    "http://user@example.org/", "http://user:secret@example.org/", "http://example.org@127.0.0.1/", "http://@8.8.8.8/",
    "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0/",
    "http://127.0.0.01/", "http://127.0.0.1.1/", "http://256.1.1.1/", "http://1.2.3/", "http://0x/", "http://a.0x1/",
    "http://127.0.0.1./", "http://example.org./", "http://example..org/", "http://.example.org/",
    "http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "http://127。0。0。1/", "http://localhost．/", "http://ⓛocalhost/",
    "http://exa\u00admple.org/", "http://%31%32%37.0.0.1/", "http://example.org%00.evil/", "http://example%2eorg/",
    "http://[::1%eth0]/", "http://[::1%25eth0]/", "http://[::1/", "http://::1/", "http://[127.0.0.1]/", "http://[v1.x]/",
    "http://example.org:/", "http://example.org:80:80/", "http://example.org:x/", "http://example.org:８0/",
    "http://example.org:123456/", "http://example.org:-1/",
    "http://exa mple.org/", " http://example.org/", "http://example.org/\r\nX: y", "http://example.org/\t",
    "http://example.org\\@127.0.0.1/", "http:\\\\example.org/", "http://example.org\0/", "http://example.org/a b",
    "http://-a.org/", "http://a-.org/", "http://" + "a" * 64 + ".org/", "http://" + "a." * 130 + "org/",
    "http://example.org/" + "a" * 5000, "http://exam\udc80ple.org/", "http://example.org/\ud800",
]  # fmt: skip


@pytest.mark.parametrize("url", ODD, ids=range(len(ODD)))
def test_odd_urls(url: str) -> None:
    with pytest.raises(BlockedUrl) as caught:
        parse(url)
    assert "secret" not in caught.value.message and "127" not in caught.value.message


def test_redirects_are_joined_and_read_alike() -> None:
    here = parse("https://example.org:8443/a/b?c")
    assert redirected(here, b"../d.png?e#f") == ("https", "example.org", 8443, b"/d.png?e")
    assert redirected(here, b"//other.org/x") == ("https", "other.org", 443, b"/x")
    assert redirected(here, b"https://8.8.8.8/") == ("https", "8.8.8.8", 443, b"/")
    assert redirected(parse("http://example.org"), b"https://example.org/x").scheme == "https"
    for location in (
        b"http://example.org/", b"https://2130706433/", b"https://user:secret@example.org/", b"//user@example.org",
        b"file:///etc/passwd", b"javascript:alert(1)", b"https://[::1%25lo]/", b"\xff\xfe", b"https://a b/", b"\\\\x",
        b"//127.1/", b"data:image/png;base64,AAAA",
    ):  # fmt: skip
        with pytest.raises(BlockedUrl) as caught:
            redirected(here, location)
        assert "secret" not in caught.value.message


def test_hosts_below() -> None:
    assert is_below("example.org", ("example.org",)) and is_below("a.b.example.org", ("x", "example.org"))
    assert not is_below("notexample.org", ("example.org",)) and not is_below("org", ("example.org",))
