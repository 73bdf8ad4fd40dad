"""The report: lines for a person, or one JSON object. Readable by Python 3.8, as python_version.py."""

from __future__ import annotations

import dataclasses
import json
from typing import Sequence  # noqa: UP035 (its place in Python 3.8)

from service.doctor.findings import Finding, SettingSource


def print_report(findings: Sequence[Finding], settings: Sequence[SettingSource], as_json: bool) -> None:
    """Problems last, where they are seen without scrolling."""
    problems = [finding for finding in findings if finding.level == "problem"]
    if as_json:
        told = {
            "problems": len(problems),
            "settings": [dataclasses.asdict(setting) for setting in settings],
            "findings": [dataclasses.asdict(finding) for finding in findings],
        }
        print(json.dumps(told, ensure_ascii=False))
        return
    for setting in settings:
        print(f"{setting.name}={setting.value}  ({setting.source})")
    if settings:
        print()
    for finding in findings:
        if finding.level != "problem":
            print(f"{finding.level:<8} {finding.check:<12} {finding.found}")
    for finding in problems:
        print(f"\nPROBLEM  {finding.check:<12} {finding.found}")
        print(f"  cause: {finding.cause}")
        print(f"  fix:   {finding.fix}")
    if problems:
        print(f"\n{len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
    else:
        print("\nno problem found")
