"""Addresses: the special ranges with their first and last members, and every form that hides an IPv4 address."""

from ipaddress import ip_address, ip_network

import pytest

from service.outbound.addresses import AddressPolicy, is_public


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32",
        "::/128", "::1/128", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64",
        "2001::/32", "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:db8::/32", "2002::/16", "3fff::/20",
        "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "::/96",
    ],
)  # fmt: skip
def test_special_ranges_are_not_public_from_end_to_end(network: str) -> None:
    first, last = ip_network(network)[0], ip_network(network)[-1]
    assert not is_public(first) and not is_public(last)


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
        "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
        "198.20.0.0", "223.255.255.255", "8.8.8.8",
        "2606:4700:4700::1111", "2000::1", "2001:200::1", "2001:4860:4860::8888", "2003::", "2a00::1", "3ffe::1",
    ],
)  # fmt: skip
def test_their_neighbours_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:8.8.8.8", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::808:808", "2002:808:808::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2a00:1::5efe:10.0.0.1", "2a00:1::200:5efe:8.8.8.8",
    ],
)  # fmt: skip
def test_no_ipv4_address_travels_inside_an_ipv6_one(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.slow
def test_what_python_calls_private_is_never_public() -> None:
    for number in range(0, 2**32, 2**32 // 65_536 + 1):
        address = ip_address(number)
        assert not (is_public(address) and (address.is_private or address.is_multicast or address.is_reserved)), address


def test_a_configuration_adds_and_takes_away() -> None:
    policy = AddressPolicy([ip_network("10.1.0.0/16"), ip_network("fd00::/8")], [ip_network("10.1.9.0/24")])
    assert policy.allows("10.1.2.3") and policy.allows("fd00::1") and policy.allows("8.8.8.8")
    assert not policy.allows("10.1.9.1") and not policy.allows("10.2.0.1")
    assert not AddressPolicy(denied=[ip_network("8.8.8.0/24")]).allows("8.8.8.8")
    for odd in ("", "x", "fe80::1%eth0", "010.1.2.3", "10.1.2.3/32", "0x0a010203"):
        assert not policy.allows(odd), odd
