"""Values of settings: what is taken, and why the rest is none. By their variables they are in test_settings.py."""

from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from service.core.setting_types import (
    Aliases,
    Colour,
    Devices,
    ExistingFile,
    Hosts,
    Networks,
    Origins,
    Port,
    PublicUrl,
)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Hosts, " x.org, ::1 ,x.org,", ("x.org", "::1")),
        (Hosts, "", ()),
        (Networks, "10.0.0.0/8,fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        (Origins, "*", ("*",)),
        (Origins, "https://a.b:8443,http://[::1]:80", ("https://a.b:8443", "http://[::1]:80")),
        (Aliases, "gpt-4o=chat, org/p:1=paint", ("gpt-4o=chat", "org/p:1=paint")),
        (Aliases, "", ()),
        (PublicUrl, "https://a.b/viscpm/", "https://a.b/viscpm"),
        (PublicUrl, "http://[::1]:8000", "http://[::1]:8000"),
        (PublicUrl, "", ""),
        (Colour, "#00fF7a", "#00fF7a"),
        (Devices, "cpu, cpu", ("cpu", "cpu")),
        (Devices, "cuda:1,cuda:0,", ("cuda:1", "cuda:0")),
        (Devices, "", ()),
        (ExistingFile, __file__, __file__),
        (ExistingFile, "", ""),
        (Port, 65535, 65535),
    ],
)
def test_what_is_meant_is_read(kind: Any, text: object, value: object) -> None:
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (Hosts, "a,https://x.org", "'https://x.org' is no host: lower-case ASCII without scheme, port or wildcard"),
        (Hosts, "X.org", "'X.org' is no host"),
        (Networks, "10.0.0.1/8", "not a valid IPv4"),
        (Origins, "https://a.b/path", "'https://a.b/path' is no origin: https://host, https://host:port or"),
        (Origins, "a.b", "'a.b' is no origin"),
        (Aliases, "gpt-4o", "'gpt-4o' is no alias: NAME=chat or NAME=paint is allowed"),
        (Aliases, "a=video", "'a=video' is no alias"),
        (Aliases, "a=chat,a=paint", "'a' is named twice"),
        (PublicUrl, "a.b", "no address: https://host, https://host:port and either with a path"),
        (PublicUrl, "https://u:p@a.b", "no address"),
        (PublicUrl, "https://a.b/x?y", "no address"),
        (Colour, "#fff", "no colour; allowed: # and six hex digits"),
        (Colour, "#ffffff\n", "no colour"),
        (Devices, "cuda:0,cuda", "'cuda' is no device of several: cuda:0, cuda:1 and so on are allowed, or all cpu"),
        (Devices, "cuda:00", "'cuda:00' is no device"),
        (Devices, "cuda:0,cpu", "GPUs and cpu do not go together"),
        (Devices, "cuda:0,cuda:1,cuda:0", "a GPU is named twice"),
        (ExistingFile, "/no/such.pem", "there is no such file"),
        (Port, 0, "greater than or equal to 1"),
    ],
)
def test_what_is_none_is_told_why(kind: Any, text: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("*", r"\*")):
        TypeAdapter(kind).validate_python(text)
