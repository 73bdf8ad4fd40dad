"""URLs that lead, or try to lead, where nobody outside may look.

`{port}` is a port that the target may fetch from and where a listener counts connections to this machine.
"""

from tests.attacks.case import Case, Group, asked

_LOOPBACK = {
    "loopback": "http://127.0.0.1:{port}/",
    "another loopback": "http://127.8.8.8:{port}/",
    "localhost": "http://localhost:{port}/",
    "localhost in capitals": "http://LOCALHOST:{port}/",
    "this host": "http://0.0.0.0:{port}/",
    "ipv6 loopback": "http://[::1]:{port}/",
    "ipv6 loopback in full": "http://[0:0:0:0:0:0:0:1]:{port}/",
    "ipv6 of all": "http://[::]:{port}/",
    "mapped loopback": "http://[::ffff:127.0.0.1]:{port}/",
    "mapped loopback in hex": "http://[::ffff:7f00:1]:{port}/",
    "compatible loopback": "http://[::127.0.0.1]:{port}/",
    "translated loopback": "http://[::ffff:0:127.0.0.1]:{port}/",
    "nat64 loopback": "http://[64:ff9b::7f00:1]:{port}/",
    "local nat64 loopback": "http://[64:ff9b:1::7f00:1]:{port}/",
    "6to4 loopback": "http://[2002:7f00:1::]:{port}/",
    "teredo loopback": "http://[2001:0:1::80ff:fffe]:{port}/",
    "isatap loopback": "http://[2a00:1::5efe:127.0.0.1]:{port}/",
}

_INSIDE = {
    "private 10": "http://10.0.0.1/",
    "private 172": "http://172.16.0.1/",
    "private 172, last": "http://172.31.255.255/",
    "private 192": "http://192.168.1.1/",
    "carrier": "http://100.64.0.1/",
    "a cloud's metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata, mapped": "http://[::ffff:169.254.169.254]/",
    "metadata through nat64": "http://[64:ff9b::a9fe:a9fe]/",
    "metadata over ipv6": "http://[fd00:ec2::254]/latest/meta-data/",
    "metadata of a container": "http://169.254.170.2/v2/credentials",
    "another cloud's metadata": "http://100.100.100.200/",
    "a third cloud's metadata": "http://192.0.0.192/",
    "a host's own service": "http://168.63.129.16/",
    "link-local ipv6": "http://[fe80::1]/",
    "unique local ipv6": "http://[fc00::1]/",
    "site-local ipv6": "http://[fec0::1]/",
    "multicast": "http://224.0.0.1/",
    "multicast ipv6": "http://[ff02::1]/",
    "broadcast": "http://255.255.255.255/",
    "reserved": "http://240.0.0.1/",
    "this network": "http://0.1.2.3/",
    "documentation": "http://192.0.2.1/",
    "benchmark": "http://198.18.0.1/",
    "documentation ipv6": "http://[2001:db8::1]/",
    "discard-only ipv6": "http://[100::1]/",
    "mapped public": "http://[::ffff:8.8.8.8]/",
    "6to4 relay": "http://192.88.99.1/",
    "a name of nobody": "http://nobody.invalid/",
}

_NOTATIONS = {
    "one decimal number": "http://2130706433:{port}/",
    "one hex number": "http://0x7f000001:{port}/",
    "one octal number": "http://017700000001:{port}/",
    "octal parts": "http://0177.0.0.1:{port}/",
    "hex parts": "http://0x7f.0x0.0x0.0x1:{port}/",
    "mixed parts": "http://0x7f.1:{port}/",
    "two parts": "http://127.1:{port}/",
    "three parts": "http://127.0.1:{port}/",
    "zero": "http://0:{port}/",
    "leading zeros": "http://127.000.000.001:{port}/",
    "overflow": "http://383.0.0.1:{port}/",
    "a number of 40 digits": "http://" + "9" * 40 + ":{port}/",
    "trailing dot": "http://127.0.0.1.:{port}/",
    "localhost with a dot": "http://localhost.:{port}/",
    "two dots": "http://127..0.0.1:{port}/",
    "full-width digits": "http://１２７.0.0.1:{port}/",
    "circled digits": "http://①②⑦.⓪.⓪.①:{port}/",
    "ideographic dots": "http://127。0。0。1:{port}/",
    "circled letters": "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/",
    "soft hyphen": "http://local\u00adhost:{port}/",
    "zero-width space": "http://local\u200bhost:{port}/",
    "percent-encoded": "http://%31%32%37.0.0.1:{port}/",
    "percent-encoded dot": "http://127%2e0.0.1:{port}/",
    "percent-encoded NUL": "http://127.0.0.1%00.example.org:{port}/",
    "zone id": "http://[fe80::1%25lo]:{port}/",
    "zone id on loopback": "http://[::1%lo]:{port}/",
    "ipv4 in brackets": "http://[127.0.0.1]:{port}/",
    "ipv6 without brackets": "http://::1:{port}/",
    "future address": "http://[v1.127.0.0.1]:{port}/",
    "credentials": "http://user:secret@127.0.0.1:{port}/",
    "a host as user": "http://example.org@127.0.0.1:{port}/",
    "an empty user": "http://@127.0.0.1:{port}/",
    "backslash before @": "http://example.org\\@127.0.0.1:{port}/",
    "fragment before @": "http://example.org#@127.0.0.1:{port}/../",
    "three slashes": "http:///127.0.0.1:{port}/",
    "no host": "http://:{port}/",
    "only a scheme": "http://",
    "tab": "http://127.0.0.1\t:{port}/",
    "newline": "http://127.0.0.1:{port}/\r\nX-Injected: 1",
    "space": "http://127.0.0.1 :{port}/",
    "NUL": "http://127.0.0.1\0:{port}/",
    "two ports": "http://127.0.0.1:{port}:80/",
    "an empty port": "http://127.0.0.1:/",
    "port of full-width digits": "http://127.0.0.1:８０/",
    "100,000 characters": "http://example.org/" + "a" * 100_000,
    "label of 64": "http://" + "a" * 64 + ".org/",
}

_ELSEWHERE = {
    "a shell's port": "http://8.8.8.8:22/",
    "redis' port": "http://8.8.8.8:6379/",
    "port 0": "http://8.8.8.8:0/",
    "port 65536": "http://8.8.8.8:65536/",
    "file": "file:///etc/passwd",
    "file with a host": "file://localhost/etc/passwd",
    "ftp": "ftp://127.0.0.1/",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict": "dict://127.0.0.1:{port}/info",
    "ldap": "ldap://127.0.0.1:{port}/",
    "unix socket": "unix:///var/run/docker.sock",
    "websocket": "ws://127.0.0.1:{port}/",
}


def _blocked(group: Group, urls: dict[str, str]) -> list[Case]:
    return [
        Case(
            group,
            name,
            lambda around, url=url: asked(url.replace("{port}", str(around.canary_port))),  # type: ignore[misc]
            400,
            "blocked_url",
            "fetching",
        )
        for name, url in urls.items()
    ]


CASES: list[Case] = _blocked("addresses", _LOOPBACK | _INSIDE) + _blocked("urls", _NOTATIONS | _ELSEWHERE)
