"""Lines of a parity run: what passes, what fails, and how it is shown."""

import math
from collections.abc import Callable

import pytest
import torch

from models.parity.report import Report, to_tensor

ONES = torch.ones(2, 3)


def shown(capsys: pytest.CaptureFixture[str], judge: Callable[[Report], None]) -> tuple[Report, list[str]]:
    """The report after one call, and the words of the line that it printed."""
    report = Report()
    judge(report)
    (line,) = capsys.readouterr().out.splitlines()
    return report, line.split()


def off_by(amount: float) -> torch.Tensor:
    tensor = ONES.clone()
    tensor[1, 2] += amount
    return tensor


@pytest.mark.parametrize(
    ("amount", "relative", "value", "verdict"),
    [
        (0.0, False, "0", "pass"),
        (0.25, False, "0.25", "pass"),
        (-0.25, False, "0.25", "pass"),
        (0.5, False, "0.5", "FAIL"),
        (0.5, True, "0.25", "pass"),
        (1.0, True, "0.5", "FAIL"),
        (math.nan, False, "nan", "FAIL"),
        (math.inf, False, "inf", "FAIL"),
    ],
)
def test_the_largest_difference_is_held_against_its_limit(
    capsys: pytest.CaptureFixture[str], amount: float, relative: bool, value: str, verdict: str
) -> None:
    expected = ONES * 2 if relative else ONES
    got = off_by(amount) + (1 if relative else 0)
    report, words = shown(capsys, lambda report: report.difference("some name", got, expected, 0.25, relative))
    assert words == ["some", "name", value, "0.25", verdict]
    assert (report.lines, report.failures) == (1, int(verdict == "FAIL"))


def test_tensors_of_other_shapes_fail_and_name_both(capsys: pytest.CaptureFixture[str]) -> None:
    report, words = shown(capsys, lambda report: report.difference("x", ONES[:1], ONES, 9.0))
    assert " ".join(words) == "x shape (1, 3) for (2, 3) 9 FAIL"
    assert report.failures == 1


def test_half_precision_is_compared_without_rounding_again(capsys: pytest.CaptureFixture[str]) -> None:
    got, expected = torch.tensor([1.0], dtype=torch.float16, requires_grad=True), torch.tensor([1.0001])
    report, words = shown(capsys, lambda report: report.difference("x", got, expected, 1e-5))
    assert (words[1], report.failures) == ("0.0001", 1)


def test_tensors_without_entries_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    empty = torch.ones(0, 4)
    report, _ = shown(capsys, lambda report: report.difference("x", empty, empty, 0.0, relative=True))
    assert report.failures == 0


def test_a_mean_difference_is_over_all_entries(capsys: pytest.CaptureFixture[str]) -> None:
    report, words = shown(capsys, lambda report: report.mean_difference("x", off_by(0.75), ONES, 0.125))
    assert (words[1], report.failures) == ("0.125", 0)
    report, _ = shown(capsys, lambda report: report.mean_difference("x", off_by(0.76), ONES, 0.125))
    assert report.failures == 1
    report, _ = shown(capsys, lambda report: report.mean_difference("x", off_by(math.nan), ONES, 0.125))
    assert report.failures == 1


@pytest.mark.parametrize(
    ("got", "expected", "value", "verdict"),
    [
        (110.0, 100.0, "0.1", "pass"),
        (0.2, 0.1, "0.1", "pass"),
        (-112.0, -100.0, "0.12", "FAIL"),
        (math.nan, 1, "nan", "FAIL"),
    ],
)
def test_numbers_over_1_are_compared_relatively(
    capsys: pytest.CaptureFixture[str], got: float, expected: float, value: str, verdict: str
) -> None:
    _, words = shown(capsys, lambda report: report.number("x", got, expected, 0.1001))
    assert (words[1], words[-1]) == (value, verdict)


def test_plain_data_is_equal_or_shown_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    report, words = shown(capsys, lambda report: report.exact("x", [1, {"a": 2}], [1, {"a": 2}]))
    assert words == ["x", "0", "exact", "pass"]
    report, words = shown(capsys, lambda report: report.exact("x", list(range(1000)), [7]))
    assert report.failures == 1
    assert words[1:4] == ["got", "[0,", "1,"] and words[-4:] == ["expected", "[7]", "exact", "FAIL"]
    assert len(" ".join(words)) < 200


def test_a_note_is_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    report, words = shown(capsys, lambda report: report.note("x", "3 of 4"))
    assert words == ["x", "3", "of", "4", "noted"]
    assert (report.lines, report.failures) == (0, 0)


def test_lines_add_up_and_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    for name, passed in (("a", True), ("a longer name", False), ("c", False)):
        report.line(name, "1", "2", passed)
    assert (report.lines, report.failures) == (3, 2)
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1 and [line[-4:] for line in lines] == ["pass", "FAIL", "FAIL"]


def test_lists_become_int64() -> None:
    tensor = to_tensor([[1, 2], [3, 4]])
    assert (tensor.dtype, tensor.tolist()) == (torch.int64, [[1, 2], [3, 4]])
