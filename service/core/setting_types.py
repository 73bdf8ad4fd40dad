"""What settings hold beyond numbers and names: lists in one variable, hosts, origins, aliases, colours, devices."""

import binascii
import re
from base64 import b64decode
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:]*:[0-9a-f:]*")  # or an IPv6 address
_DEVICE = re.compile(r"cpu|cuda:(0|[1-9][0-9]?)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([mMgG]?)")
_UNITS = {"m": 2**20, "g": 2**30}
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}=(chat|paint)")
_PUBLIC_URL = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


def _split(value: object) -> object:
    parts = _split_all(value)
    return tuple(dict.fromkeys(parts)) if isinstance(value, str) and isinstance(parts, tuple) else parts


def _split_all(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is no host: lower-case ASCII without scheme, port or wildcard is allowed")
    return hosts


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{origin!r} is no origin: https://host, https://host:port or * is allowed")
    return origins


def _check_public_url(url: str) -> str:
    url = url.removesuffix("/")
    if url and not _PUBLIC_URL.fullmatch(url):
        raise ValueError(
            "no address: https://host, https://host:port and either with a path such as /viscpm is allowed"
        )
    return url


def _check_server_url(url: str) -> str:
    if not url:
        return url
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("no address of a server: http or https, a host, and a port and a path where it has them")
    return url.rstrip("/")


def _check_aliases(aliases: tuple[str, ...]) -> tuple[str, ...]:
    names = [alias.rpartition("=")[0] for alias in aliases]
    for alias, name in zip(aliases, names, strict=True):
        if not _ALIAS.fullmatch(alias):
            raise ValueError(f"{alias!r} is no alias: NAME=chat or NAME=paint is allowed")
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is named twice")
    return aliases


def _check_colour(colour: str) -> str:
    if not _COLOUR.fullmatch(colour):
        raise ValueError("no colour; allowed: # and six hex digits, such as #ffffff")
    return colour


def _check_devices(devices: tuple[str, ...]) -> tuple[str, ...]:
    for device in devices:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"{device!r} is no device of several: cuda:0, cuda:1 and so on are allowed, or all cpu")
    if "cpu" in devices and set(devices) != {"cpu"}:
        raise ValueError("GPUs and cpu do not go together")
    if "cpu" not in devices and len(set(devices)) < len(devices):
        raise ValueError("a GPU is named twice")
    return devices


def _bytes_of(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("no size; allowed are bytes, or a number and m or g for MiB or GiB, such as 17g")
    number, unit = match.groups()
    return int(float(number) * _UNITS[unit.lower()]) if unit else int(float(number))


def webhook_keys(secrets: str) -> list[bytes]:
    """What each of the secrets, separated by commas, signs with. Raises ValueError."""
    keys = []
    for secret in _split_all(secrets):  # type: ignore[attr-defined]
        try:
            keys.append(b64decode(secret.removeprefix("whsec_"), validate=True))
        except binascii.Error:
            keys.append(b"")
        if not secret.startswith("whsec_") or not 24 <= len(keys[-1]) <= 64:
            raise ValueError("no secret of webhooks; allowed: whsec_ and the base64 of 24 to 64 random bytes")
    return keys


def _check_webhook_secret(secrets: str) -> str:
    webhook_keys(secrets)
    return secrets


def _check_file(name: str) -> str:
    if name and not Path(name).is_file():
        raise ValueError("there is no such file")
    return name


LIST = (NoDecode, BeforeValidator(_split))  # what makes a tuple one of values between commas, each once

# Bytes, written as such or as MiB and GiB: 512m, 5g, 7.5g
ByteSize = Annotated[int, BeforeValidator(_bytes_of), Field(ge=0)]
Port = Annotated[int, Field(ge=1, le=65535)]
Hosts = Annotated[tuple[str, ...], *LIST, AfterValidator(_check_hosts)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], *LIST]
Origins = Annotated[tuple[str, ...], *LIST, AfterValidator(_check_origins)]
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]  # or empty: none
ServerUrl = Annotated[str, AfterValidator(_check_server_url)]  # that is asked; or empty: none
Aliases = Annotated[tuple[str, ...], *LIST, AfterValidator(_check_aliases)]
Colour = Annotated[str, AfterValidator(_check_colour)]
Devices = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_all), AfterValidator(_check_devices)]
WebhookSecret = Annotated[str, AfterValidator(_check_webhook_secret)]  # or several; or empty: none
ExistingFile = Annotated[str, AfterValidator(_check_file)]  # or empty: none
