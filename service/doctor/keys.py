"""Whether those who are to be let in have a key to show."""

import asyncio
import time

from service.access.api_keys import ApiKey
from service.access.key_store import KeyStore
from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.doctor.findings import Finding, note, ok, problem
from service.redis.connection import open_redis

_CHECK = "keys"


def check_keys(settings: Settings, server_url: str) -> list[Finding]:
    """`server_url`: of a server that answers; empty: there is none, and keys cannot be looked up."""
    if settings.auth == "auto" and not settings.is_loopback:
        return [
            problem(
                _CHECK,
                f"VISCPM_HOST={settings.host} can be asked from elsewhere, and VISCPM_AUTH does not say how",
                "the API does not start before it is said whether requests from elsewhere need a key",
                "VISCPM_AUTH=on and `viscpm keys create`, or VISCPM_AUTH=off for all who reach it",
            )
        ]
    if settings.is_open:
        told = "VISCPM_AUTH=off" if settings.auth == "off" else "only this machine can ask"
        return [ok(_CHECK, f"requests need none: {told}")]
    if not server_url:
        return [note(_CHECK, "requests need one; which there are cannot be read before the queue's server runs")]
    try:
        keys = asyncio.run(_keys(settings.model_copy(update={"redis_url": server_url})))
    except BusUnavailable as error:
        return [note(_CHECK, f"they cannot be read: {error.message}")]
    return _judged(settings, [key for key in keys if key.is_live(time.time())], len(keys))


async def _keys(settings: Settings) -> list[ApiKey]:
    store = KeyStore(open_redis(settings), settings)
    try:
        return await store.all()
    finally:
        await store.close()


def _judged(settings: Settings, live: list[ApiKey], num_keys: int) -> list[Finding]:
    if not live:
        ended = f"the {num_keys} there were have expired or are revoked" if num_keys else "none was ever made"
        return [
            problem(
                _CHECK,
                "VISCPM_AUTH=on, and there is no key that is let in",
                f"requests need an API key, and {ended}: all are answered with 401",
                "`viscpm keys create --name NAME` prints one; clients send it as `Authorization: Bearer …`",
            )
        ]
    if not settings.api_key:
        return [ok(_CHECK, f"{len(live)} live"), note(_CHECK, "`viscpm chat` and `paint` need one in VISCPM_API_KEY")]
    return [ok(_CHECK, f"{len(live)} live")]
