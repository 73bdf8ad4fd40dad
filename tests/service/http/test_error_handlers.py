"""Every exception as an answer in the one documented form."""

from tests.service.web import Service, assert_error


async def test_routes_methods_and_media_that_are_not_there(service: Service) -> None:
    client = service.client
    assert_error(await client.get("/nothing"), 404, "not_found")
    wrong_method = await client.get("/chat")
    assert_error(wrong_method, 405, "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST"
    for path in ("/chat", "/paint"):
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = await client.post(path, content=b"x", headers={"content-type": content_type})
            assert_error(response, 415, "unsupported_media_type")
    assert await service.metric('viscpm_requests_total{outcome="not_found",route="unmatched"}') == 1
    assert await service.metric('viscpm_requests_total{outcome="unsupported_media_type",route="/paint"}') == 3
