"""`viscpm doctor`: looks at what a start would need, and names each problem with its cause and its fix."""

import argparse
import logging
import sys
from collections.abc import Sequence

from service.doctor.checkpoints import check_checkpoints
from service.doctor.clocks import check_clocks
from service.doctor.disks import check_disks
from service.doctor.findings import Finding, SettingSource, note
from service.doctor.gpus import find_gpus, told_gpus
from service.doctor.keys import check_keys
from service.doctor.ports import check_ports
from service.doctor.python_version import check_python
from service.doctor.queue_server import check_queue_server
from service.doctor.report import print_report
from service.doctor.setting_sources import check_settings, setting_sources


def main(argv: Sequence[str]) -> int:
    """The exit code: 0, 1 where a problem was found, 2 for wrong flags."""
    options = parser().parse_args(argv)
    logging.disable(logging.WARNING)  # what is to be said is in the report, and packages of models are chatty
    try:
        findings, sources = examine(options.all)
    finally:
        logging.disable(logging.NOTSET)
    print_report(findings, sources, options.json)
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def examine(is_all: bool = False) -> tuple[list[Finding], list[SettingSource]]:
    """Everything, in the order in which a start meets it; `is_all` lists the settings that nobody set, too."""
    findings = [check_python(sys.version_info)]
    settings, about_settings = check_settings()
    findings += about_settings
    findings += told_gpus(find_gpus())
    if settings is None:
        return [*findings, note("settings", "the rest is not examined before they are right")], []
    server = check_queue_server(settings)
    ports = check_ports(settings)
    findings += server.findings
    findings += ports.findings
    findings += check_clocks(server.clock_ahead_s, ports.api_ahead_s)
    findings += check_keys(settings, server.url)
    findings += check_disks(settings)
    findings += check_checkpoints(settings)
    return findings, setting_sources(settings, is_all)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="viscpm doctor",
        description="Examines settings, Redis, ports, clocks, keys, disks, checkpoints and GPUs of this machine, and "
        "changes nothing. Exit code 1: a problem was found. Each is told with its cause and its fix.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--all", action="store_true", help="list all settings, those that nobody set too")
    return parser
