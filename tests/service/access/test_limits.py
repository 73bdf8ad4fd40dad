"""How a key's use is told: headers of the limits that there are, and one sentence where there is no more."""

from service.access.api_keys import KeyLimits
from service.access.limits import KeyUse


def test_headers_tell_the_limits_that_there_are() -> None:
    use = KeyUse(KeyLimits(requests_per_min=10, tokens_per_min=500), 4, 620, 1, 12.3456)
    assert dict(use.headers()) == {
        b"x-ratelimit-limit-requests": b"10",
        b"x-ratelimit-remaining-requests": b"6",
        b"x-ratelimit-reset-requests": b"12.346s",
        b"x-ratelimit-limit-tokens": b"500",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"12.346s",
    }
    assert KeyUse(KeyLimits(max_jobs=2), 4, 0, 1, 1.0).headers() == []


def test_refusals_say_what_was_used_what_is_allowed_and_when_to_come_back() -> None:
    use = KeyUse(KeyLimits(10, 500, 2), 10, 620, 2, 12.2)
    requests, tokens, jobs = (use.refusal(reason) for reason in ("requests", "tokens", "jobs"))
    assert "used 10 requests in this minute, and may use 10" in requests.message and requests.retry_after_s == 13
    assert "used 620 tokens in this minute, and may use 500" in tokens.message and tokens.retry_after_s == 13
    assert "has 2 jobs queued or running, and may have 2" in jobs.message and jobs.retry_after_s == 1
    assert use._replace(left_s=0.01).refusal("requests").retry_after_s == 1
