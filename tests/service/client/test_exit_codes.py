"""What an error of the service comes to."""

import re
from pathlib import Path

import pytest

from service.client.exit_codes import CommandError, ExitCode, UsageError, exit_code_of

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_request", ExitCode.FAILED),
        (400, "content_policy_violation", ExitCode.REFUSED),
        (0, "content_policy_violation", ExitCode.REFUSED),  # in a stream
        (401, "invalid_api_key", ExitCode.NOT_ALLOWED),
        (403, "insufficient_scope", ExitCode.NOT_ALLOWED),
        (429, "queue_full", ExitCode.BUSY),
        (503, "no_worker", ExitCode.BUSY),
        (500, "job_failed", ExitCode.FAILED),
        (504, "deadline_exceeded", ExitCode.FAILED),
    ],
)
def test_an_error_has_its_exit_code(status: int, code: str, expected: ExitCode) -> None:
    assert exit_code_of(status, code) == expected


def test_what_is_wrong_with_words_is_usage() -> None:
    assert UsageError("no").exit_code == 2
    assert CommandError("no").exit_code == 1


def test_the_document_lists_all_of_them() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \|$", (ROOT / "docs/guides/cli.md").read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == [int(code) for code in ExitCode]
