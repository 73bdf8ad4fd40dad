"""Which addresses may be dialled for a URL that somebody else named: those that anyone on the internet reaches.

IPv4: all but the special-purpose ranges. IPv6: global unicast (2000::/3) alone, less its special-purpose ranges, and
less every form in which an IPv4 address travels inside: the forms outside 2000::/3 (mapped ::ffff:0:0/96, compatible
::/96, translated ::ffff:0:0:0/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48), 6to4, Teredo and ISATAP. A translation
prefix that a network gave itself looks like any other address: name it in VISCPM_FETCH_DENIED_NETWORKS.
Ranges: IANA's special-purpose address registries, and the clouds' own service address that is not among them.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' address translation
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, reached from its guests alone
        "169.254.0.0/16",  # link-local, with the clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, with broadcast
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)  # upper half of the interface identifier; the lower is an IPv4 address


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address not in _GLOBAL_UNICAST or any(address in network for network in _SPECIAL_IPV6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP


class AddressPolicy:
    """Public addresses, with the exceptions of a configuration; denied goes before allowed."""

    def __init__(self, allowed: Iterable[Network] = (), denied: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)
        self._denied = tuple(denied)

    def allows(self, text: str) -> bool:
        """Whether `text` is an address that may be dialled."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if any(address in network for network in self._denied):
            return False
        return is_public(address) or any(address in network for network in self._allowed)
