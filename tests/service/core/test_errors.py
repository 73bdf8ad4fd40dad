"""The error tree: one code a class, what an ended job's code stands for, and the one form."""

import json
from collections.abc import Iterator

import pytest

from service.core import errors
from service.core.errors import JobFailed, ServiceError, Unavailable, codes_of, error_body, from_code

ROOT_CODE = ServiceError.code


def below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


TREE = sorted(set(below(ServiceError)), key=lambda kind: kind.__name__)


def test_every_class_has_a_code_and_a_docstring_of_its_own() -> None:
    codes = [ROOT_CODE, *(kind.code for kind in TREE)]
    assert len(codes) == len(set(codes))
    for kind in TREE:
        assert "code" in vars(kind) and kind.__doc__, f"{kind.__name__} has the code of its base"
        if f"{kind.status}" not in kind.__doc__:  # a base's docstring may say it for its children
            assert any(str(kind.status) in (base.__doc__ or "") for base in kind.__mro__[1:-1]), kind.__name__


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_a_code_comes_back_as_its_class(kind: type[ServiceError]) -> None:
    error = from_code(kind.code, "as told", "job-1")
    assert type(error) is kind and (error.status, error.code, error.message) == (kind.status, kind.code, "as told")
    told = "job_id" in error.extra
    assert told == (kind.status >= 500), "every 500 names its job, and nothing else does"
    assert (error.retry_after_s is not None) == (issubclass(kind, Unavailable) or kind.status in (409, 429))


def test_an_engines_own_code_is_kept_in_a_failed_job() -> None:
    error = from_code("generation_failed", "NaN", "job-1")
    assert type(error) is JobFailed and (error.status, error.code) == (500, "generation_failed")
    assert JobFailed.code == "job_failed", "the class keeps its own"
    assert from_code("", "nobody said why").code == "job_failed"
    assert from_code("generation_failed", "NaN").extra == {}


def test_the_body_has_four_members_and_what_is_added() -> None:
    bare = error_body(errors.NotFound("no such route"))
    assert json.loads(json.dumps(bare)) == {
        "error": {"message": "no such route", "type": "invalid_request_error", "param": None, "code": "not_found"}
    }
    refused = errors.ContentRefused("not here", param="prompt", extra={"moderation": {"flagged": True}})
    assert error_body(refused)["error"]["moderation"] == {"flagged": True}  # type: ignore[index]
    assert error_body(refused)["error"]["param"] == "prompt"  # type: ignore[index]


def test_codes_are_found_by_status() -> None:
    assert codes_of(500) == sorted([ROOT_CODE, "job_failed", "job_lost"])
    assert codes_of(429) == ["queue_full", "rate_limit_exceeded", "too_many_watchers"]
    assert codes_of(418) == []
