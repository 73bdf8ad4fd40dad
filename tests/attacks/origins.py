"""What a hostile web server answers, and where its redirects lead."""

from urllib.parse import quote

from tests.attacks.case import Case, Group, Surroundings, asked

_SLOW = ("/hang", "/drip-head", "/drip-body")


def _case(group: Group, name: str, path: str, status: int, code: str) -> Case:
    """`{port}` in the path is where a listener counts connections that must not come; `{origin}` the origin itself."""

    def request(around: Surroundings) -> object:
        target = path.replace("{port}", str(around.canary_port)).replace("{origin}", around.origin_url)
        _, sign, location = target.partition("to=")
        return asked(around.origin_url + (target.replace(sign + location, sign + quote(location)) if sign else target))

    return Case(group, name, request, status, code, "origin", path in _SLOW)  # type: ignore[arg-type]


_BLOCKED_TARGETS = {
    "to loopback": "http://127.0.0.1:{port}/",
    "to localhost": "http://localhost:{port}/",
    "to ipv6 loopback": "http://[::1]:{port}/",
    "to a mapped address": "http://[::ffff:127.0.0.1]:{port}/",
    "to a number": "http://2130706433:{port}/",
    "to metadata": "http://169.254.169.254/latest/meta-data/",
    "to a private network": "http://192.168.0.1/",
    "to another port": "http://8.8.8.8:22/",
    "to a file": "file:///etc/passwd",
    "to gopher": "gopher://127.0.0.1:{port}/_x",
    "to data": "data:image/png;base64,AAAA",
    "to a script": "javascript:alert(1)",
    "with credentials": "http://a:b@127.0.0.1:{port}/",
    "without a scheme": "//127.0.0.1:{port}/",
    "with a backslash": "/\\127.0.0.1:{port}/",
}

REDIRECTS: list[Case] = [
    _case("redirects", name, f"/redirect?to={location}", 400, "blocked_url")
    for name, location in _BLOCKED_TARGETS.items()
] + [
    *(
        _case(
            "redirects",
            f"{status} to loopback",
            f"/redirect?status={status}&to=http://127.0.0.1:{{port}}/",
            400,
            "blocked_url",
        )
        for status in (301, 303, 307, 308)
    ),
    _case(
        "redirects",
        "through the origin to loopback",
        "/redirect?to={origin}/redirect?to=http://127.0.0.1:{port}/",
        400,
        "blocked_url",
    ),
    _case("redirects", "a loop", "/loop", 422, "unprocessable_media"),
    _case("redirects", "four", "/chain?left=3", 422, "unprocessable_media"),
    _case("redirects", "three", "/chain?left=2", 200, ""),
]

_FAILURES = {
    "404": "/status?is=404",
    "500": "/status?is=500",
    "204": "/status?is=204",
    "206": "/status?is=206",
    "401": "/status?is=401",
    "304": "/status?is=304",
    "no answer": "/hang",
    "a head in drips": "/drip-head",
    "a body in drips": "/drip-body",
    "an endless body": "/endless",
    "endless chunks": "/endless-chunks",
    "endless crumbs": "/crumbs",
    "endless informational answers": "/informational",
    "an endless head": "/endless-head",
    "an endless line": "/long-line",
    "a gigabyte declared": "/claims-a-gigabyte",
    "2⁷⁰ bytes declared": "/claims-2^70",
    "more declared than sent": "/claims-too-much",
    "less than nothing declared": "/claims-less-than-nothing",
    "two lengths": "/claims-twice",
    "a chunk of terabytes": "/chunk-of-terabytes",
    "a chunk of junk": "/chunk-size-of-junk",
    "a compressed bomb": "/gzip",
    "another compression": "/deflate",
    "silence": "/silence",
    "another protocol": "/nonsense",
    "a reset": "/reset",
}

_NO_PICTURES = {
    "compressed without saying so": ("/gzip-unsaid", "invalid_image"),
    "html that says png": ("/html", "invalid_image"),
    "svg": ("/svg", "invalid_image"),
    "a png bomb": ("/bomb", "image_too_large"),
    "a picture cut off": ("/cut-off", "invalid_image"),
    "nothing": ("/nothing", "invalid_image"),
    "less declared than sent": ("/claims-too-little", "invalid_image"),
}

ORIGINS: list[Case] = (
    [_case("origins", name, path, 422, "unprocessable_media") for name, path in _FAILURES.items()]
    + [_case("origins", name, path, 400, code) for name, (path, code) in _NO_PICTURES.items()]
    + [
        _case("origins", "a picture", "/picture", 200, ""),
        _case("origins", "a picture that says html", "/picture-as-text", 200, ""),
    ]
)

CASES: list[Case] = REDIRECTS + ORIGINS
