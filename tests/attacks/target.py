"""A service to attack: the real API process on a real server of the Redis protocol, workers of scripted engines."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.attacks import canary, origin
from tests.attacks.canary import Canary
from tests.attacks.case import Surroundings
from tests.attacks.origin import Origin
from tests.service.api_process import ApiProcess, api_process

ORIGIN_HOST = "127.66.0.1"  # of this machine, and the one address that the target may fetch from

LIMITS = {
    "VISCPM_SAFETY": "off",  # nothing of this is screened: it never gets that far
    "VISCPM_FETCH_IMAGES": "true",
    "VISCPM_FETCH_ALLOWED_NETWORKS": f"{ORIGIN_HOST}/32",
    "VISCPM_FETCH_TIMEOUT_S": "3",
    "VISCPM_BODY_TIMEOUT_S": "8",
}


class Target:
    """A running service and what surrounds it."""

    def __init__(self, api: ApiProcess, hostile: Origin, listener: Canary) -> None:
        self.api = api
        self.hostile = hostile
        self.canary = listener

    @property
    def url(self) -> str:
        return self.api.url

    @property
    def around(self) -> Surroundings:
        return Surroundings(self.hostile.url, self.canary.port)

    def resident_bytes(self) -> int:
        return self.api.resident_bytes()


@contextmanager
def surroundings() -> Iterator[tuple[Origin, Canary]]:
    with canary.listening() as listener, origin.serving(ORIGIN_HOST) as hostile:
        yield hostile, listener


@contextmanager
def attacked(folder: Path) -> Iterator[Target]:
    """Everything started, and stopped with the block."""
    with surroundings() as (hostile, listener):
        ports = f"80,443,{listener.port},{hostile.server_address[1]}"
        with api_process(folder, **LIMITS, VISCPM_FETCH_PORTS=ports) as api:
            yield Target(api, hostile, listener)
