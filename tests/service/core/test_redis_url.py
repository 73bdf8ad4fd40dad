"""VISCPM_REDIS_URL: what is allowed, and that no error shows a password."""

import pytest

from service.core.redis_url import Credentials, RedisUrl, parse_redis_url
from service.core.settings import Settings, SettingsError, read_settings

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://host", RedisUrl("single", (("host", 6379),))),
        ("REDIS://host:7000/3", RedisUrl("single", (("host", 7000),), db=3)),
        ("redis://host?db=3", RedisUrl("single", (("host", 6379),), db=3)),
        (
            "rediss://ann:p%40s%2Fs%3Aw@[::1]:7000",
            RedisUrl("single", (("::1", 7000),), has_tls=True, credentials=Credentials("ann", "p@s/s:w")),
        ),
        ("redis://:a:b@host", RedisUrl("single", (("host", 6379),), credentials=Credentials("", "a:b"))),
        ("unix:///a%20b/c.sock", RedisUrl("single", path="/a b/c.sock")),
        ("unix://:pw5@/c.sock?db=1", RedisUrl("single", path="/c.sock", credentials=Credentials("", "pw5"), db=1)),
        (
            "redis+sentinel://ann:pw5@h1:1,h2,[fe80::1]:2/main/4?sentinel_user=s&sentinel_password=q%26",
            RedisUrl(
                "sentinel",
                (("h1", 1), ("h2", 26379), ("fe80::1", 2)),
                credentials=Credentials("ann", "pw5"),
                sentinel_credentials=Credentials("s", "q&"),
                service="main",
                db=4,
            ),
        ),
        ("rediss+sentinel://h/main", RedisUrl("sentinel", (("h", 26379),), has_tls=True, service="main")),
        ("redis+cluster://h1,h2:7000", RedisUrl("cluster", (("h1", 6379), ("h2", 7000)))),
        ("rediss+cluster://[::1],[::2]", RedisUrl("cluster", (("::1", 6379), ("::2", 6379)), has_tls=True)),
    ],
)
def test_its_parts(text: str, expected: RedisUrl) -> None:
    parsed = parse_redis_url(text)
    assert parsed == expected
    for credentials in (parsed.credentials, parsed.sentinel_credentials):
        if credentials is not None and credentials.password:
            assert credentials.password not in repr(parsed) + str(parsed)


def test_logs_tell_where_it_leads() -> None:
    assert str(parse_redis_url("redis+sentinel://ann:p@h1,[::1]:2/main")) == "redis+sentinel://h1:26379,[::1]:2/main"
    assert str(parse_redis_url("unix:///a/b.sock?db=2")) == "unix:///a/b.sock"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"sentinel://:{SECRET}@h/main", "must begin with one of redis://, .*; it begins with sentinel://"),
        (f"user:{SECRET}@h:6379", "must begin with one of redis://, .*; it begins with none of them"),
        (f"redis://:{SECRET}/x@h", "percent-encoded"),
        (f"redis://:{SECRET}#x@h", "percent-encoded"),
        (f"redis://:{SECRET}?x@h", "percent-encoded"),
        (f"redis://{SECRET}@h", "a user without a password"),
        (f"redis://x:{SECRET}", "a port that is no number"),
        ("redis://h:0", "after host 1 a port that is no number from 1 to 65535"),
        ("redis+cluster://h,h:70000", "after host 2 a port"),
        ("redis://", "no host in place 1"),
        ("redis+cluster://h,", "no host in place 2"),
        ("redis://::1", "an IPv6 address in"),
        ("redis://a,b", "names several hosts"),
        ("redis://h/x", "a database that is no number"),
        ("redis://h/1/2", "more after its host"),
        ("redis+cluster://h/1", "a cluster has number 0 alone"),
        ("redis+sentinel://h", "must name the service"),
        ("unix://tmp/x.sock", "three slashes"),
        ("unix://", "three slashes"),
        (f"rediss://h?ssl_cert_reqs={SECRET}", "something unknown after its [?]: allowed here is db"),
        (f"redis://h?{SECRET}", "cannot be read after its [?]"),
    ],
)
def test_what_is_wrong_is_told_without_passwords(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=message):
        parse_redis_url(text)
    monkeypatch.setenv("VISCPM_REDIS_URL", text)
    with pytest.raises(SettingsError, match=f"^VISCPM_REDIS_URL .*{message}") as refused:
        read_settings()
    assert SECRET not in str(refused.value) and "\n" not in str(refused.value)


def test_settings_do_not_show_it() -> None:
    assert SECRET not in repr(Settings(redis_url=f"redis://:{SECRET}@h"))
