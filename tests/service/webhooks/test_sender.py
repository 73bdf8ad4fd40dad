"""One call to a real server: what is sent, and what is never connected to."""

import asyncio
import time

import pytest

from service.core.errors import BlockedUrl
from service.core.settings import Settings
from service.webhooks.sender import WebhookSender
from tests.service.webhooks.receiver import HANG, receiving


async def test_a_call_carries_the_body_and_nothing_of_ours_else() -> None:
    body = b'{"a": "' + b"x" * 300_000 + b'"}'
    async with receiving(202) as receiver:
        sender = WebhookSender(Settings(**receiver.settings()))  # type: ignore[arg-type]
        await sender.require_allowed(receiver.url)
        assert receiver.calls == []
        assert await sender.post(receiver.url, body, {"webhook-id": "a"}) == 202
        sender.close()
    [call] = receiver.calls
    assert call.line == "POST /hook?for=me HTTP/1.1" and call.body == body
    names = {"host", "user-agent", "content-type", "content-length", "accept-encoding", "connection", "webhook-id"}
    assert set(call.headers) == names and call.headers["content-type"] == "application/json"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiving() as inside, receiving(307, location=inside.url) as receiver:
        sender = WebhookSender(Settings(**receiver.settings()))  # type: ignore[arg-type]
        assert await sender.post(receiver.url, b"{}", {}) == 307
        sender.close()
    assert len(receiver.calls) == 1 and inside.calls == []


async def test_what_leads_inside_is_not_connected_to() -> None:
    looked_up: list[str] = []

    async def rebinding(host: str, port: int) -> list[str]:
        """Public when the request comes, inside when it is called."""
        looked_up.append(host)
        return ["8.8.8.8"] if len(looked_up) == 1 else ["127.0.0.1"]

    async with receiving() as receiver:
        settings = Settings(**receiver.settings() | {"fetch_allowed_networks": ()})  # type: ignore[arg-type]
        sender = WebhookSender(settings, rebinding)
        with pytest.raises(BlockedUrl, match="callback_url: the URL does not lead to a public address"):
            await sender.require_allowed(receiver.url)
        url = f"http://hooks.example.org:{receiver.port}/"
        await sender.require_allowed(url)
        assert await sender.post(url, b"{}", {}) == "callback_url: the URL does not lead to a public address"
        for odd, message in (
            ("ftp://example.org/", "only http and https"),
            ("http://user:secret@example.org/", "credentials"),
            (f"http://example.org:{receiver.port + 1}/", "is not asked from here"),
        ):
            with pytest.raises(BlockedUrl, match=message) as caught:
                await sender.require_allowed(odd)
            assert caught.value.param == "callback_url" and "image" not in caught.value.message
        sender.close()
    assert receiver.calls == [] and len(looked_up) == 2


async def test_what_does_not_answer_ends_in_time_and_says_why() -> None:
    async with receiving(HANG) as receiver:
        settings = Settings(**receiver.settings() | {"webhook_timeout_s": 0.3})  # type: ignore[arg-type]
        sender = WebhookSender(settings)
        began_s = time.monotonic()
        assert await sender.post(receiver.url, b"{}", {}) == "no answer within 0.3 s"
        assert time.monotonic() - began_s < 2.0
        async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            settings = settings.model_copy(update={"fetch_ports": (port,)})
            other = WebhookSender(settings)
            broken = await other.post(f"http://127.0.0.1:{port}/", b"{}", {})
            server.close()
            assert broken in (
                "its server broke off, or did not answer in HTTP",
                "the connection to its server broke off",
            )
            assert (
                await other.post(f"http://127.0.0.1:{port}/", b"{}", {}) == "no connection to its server could be made"
            )
            other.close()
        sender.close()
