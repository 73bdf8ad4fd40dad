"""Lines for a person, one object for a program."""

import json

import pytest

from service.doctor.findings import SettingSource, note, ok, problem
from service.doctor.report import print_report

FINDINGS = [ok("python", "3.11"), problem("disk", "1 MB free", "it is full", "make room"), note("gpu", "none")]
SETTINGS = [SettingSource("VISCPM_PORT", "9000", "env file")]


def test_problems_come_last_with_cause_and_fix(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(FINDINGS, SETTINGS, as_json=False)
    assert capsys.readouterr().out == (
        "VISCPM_PORT=9000  (env file)\n\n"
        "ok       python       3.11\nnote     gpu          none\n\n"
        "PROBLEM  disk         1 MB free\n  cause: it is full\n  fix:   make room\n\n1 problem\n"
    )
    print_report(FINDINGS[:1], [], as_json=False)
    assert capsys.readouterr().out.endswith("\nno problem found\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(FINDINGS, SETTINGS, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == 1
    assert told["settings"] == [{"name": "VISCPM_PORT", "value": "9000", "source": "env file"}]
    assert told["findings"][1] == {
        **{"check": "disk", "level": "problem", "found": "1 MB free"},
        **{"cause": "it is full", "fix": "make room"},
    }
