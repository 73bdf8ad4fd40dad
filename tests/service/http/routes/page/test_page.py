"""The page's routes: headers, entity tags, prefixes, and that they need no key."""

import re

import pytest

from tests.service.tree import quick_settings
from tests.service.web import Service, assert_error, serving


@pytest.mark.slow
async def test_the_page_its_files_and_the_documents_are_served(service: Service) -> None:
    page = await service.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8" and page.headers["cache-control"] == "no-cache"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy and "unsafe" not in policy
    assert (await service.client.get("/ui")).content == page.content
    asked = set(re.findall(r'(?:src|href)="(ui/[^"]+)"', page.text))
    assert len(asked) > 5
    for path in asked:
        answer = await service.client.get(f"/{path}")
        assert answer.status_code == 200 and answer.headers["cache-control"].endswith("immutable"), path
    assert "swagger-ui-bundle.js" in (await service.client.get("/docs")).text
    assert_error(await service.client.get("/ui/x/nothing.js"), 404, "not_found")
    assert_error(await service.client.get("/ui/x/../../../core/settings.py"), 404, "not_found")


async def test_a_file_of_another_version_is_this_ones_and_not_kept(service: Service) -> None:
    answer = await service.client.get("/ui/older/app.js")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"


@pytest.mark.slow
async def test_what_a_browser_has_is_not_sent_again(service: Service) -> None:
    for path in ("/", "/docs", "/ui/x/app.js"):
        first = await service.client.get(path)
        again = await service.client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == first.headers["etag"]
        head = await service.client.head(path)
        assert head.status_code == 200 and head.content == b""
        assert head.headers["content-length"] == first.headers["content-length"]


@pytest.mark.parametrize("path", ["/ui/x/swagger/swagger-ui.css", "/ui/x/style.css", "/ui/x/texts.js"])
async def test_texts_are_sent_compressed_to_those_who_take_it(service: Service, path: str) -> None:
    short = await service.client.get(path, headers={"Accept-Encoding": "gzip, br"})
    plain = await service.client.get(path, headers={"Accept-Encoding": "identity"})
    assert short.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert short.content == plain.content and short.headers["vary"] == "accept-encoding"
    assert int(short.headers["content-length"]) < len(plain.content) / 2


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/", "./"),
        ("/ui", "./"),
        ("/ui/", "../"),
        ("/docs", "./"),
        ("/docs/", "../"),
        ("/a/b", "./b/"),
        ("/a/b/ui/", "../"),
    ],
)
async def test_addresses_hold_below_a_prefix(redis_url: str, path: str, base: str) -> None:
    """What a browser makes of them leads to where the page came from, whichever of its addresses was asked."""
    async with serving(quick_settings(redis_url, root_path="/a/b")) as service:
        page = await service.client.get(path)
        assert page.status_code == 200 and f'<base href="{base}">' in page.text


@pytest.mark.slow
async def test_the_page_needs_no_key_and_can_be_switched_off(redis_url: str) -> None:
    async with serving(quick_settings(redis_url, auth="on")) as service:
        assert (await service.client.get("/")).status_code == 200
        assert (await service.client.get("/docs")).status_code == 200
        assert_error(await service.client.get("/jobs"), 401, "invalid_api_key")
    async with serving(quick_settings(redis_url, page="off")) as service:
        for path in ("/", "/ui", "/docs", "/ui/x/app.js"):
            assert_error(await service.client.get(path), 404, "not_found")


@pytest.mark.slow
async def test_its_routes_are_no_part_of_the_document(service: Service) -> None:
    paths = (await service.client.get("/openapi.json")).json()["paths"]
    assert not {"/", "/ui", "/docs", "/ui/{version}/{name}"} & set(paths)
