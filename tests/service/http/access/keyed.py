"""A service that asks for keys, and clients of it that have one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from service.access.api_keys import ApiKey, KeyLimits, Scope
from service.access.key_store import KeyStore
from service.core.settings import Settings
from service.redis.connection import open_redis
from tests.service.web import NO_TLS, Service, serving


class KeyedService:
    """`service.client` has no key."""

    def __init__(self, service: Service, store: KeyStore, stack: AsyncExitStack) -> None:
        self.service = service
        self.store = store
        self._stack = stack

    async def client(
        self,
        tenant: str = "acme",
        scopes: tuple[Scope, ...] = ("chat", "paint", "moderate"),
        limits: KeyLimits | None = None,
        models: tuple[str, ...] = (),
    ) -> tuple[httpx.AsyncClient, ApiKey]:
        key, text = await self.store.create("app", tenant, scopes, models=models, limits=limits or KeyLimits())
        return await self.client_of(text), key

    async def client_of(self, text: str, url: str = "") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {text}"}
        made = httpx.AsyncClient(base_url=url or self.service.url, headers=headers, timeout=30.0, verify=NO_TLS)
        return await self._stack.enter_async_context(made)


@asynccontextmanager
async def keyed(settings: Settings, is_awaited: bool = True) -> AsyncIterator[KeyedService]:
    """`is_awaited`: until it is ready."""
    async with AsyncExitStack() as stack:
        settings = settings.model_copy(update={"auth": "on"})
        service = await stack.enter_async_context(serving(settings))
        if is_awaited:
            await service.ready()
        store = KeyStore(open_redis(settings), settings)
        stack.push_async_callback(store.close)
        yield KeyedService(service, store, stack)
