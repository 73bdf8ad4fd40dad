"""Ports that are free, taken, and not to be had."""

import os
import socket

import pytest

from service.core.settings import Settings
from service.doctor.ports import Holder, check_ports
from tests.redis_servers import free_port
from tests.service.doctor.crooked_clocks import ServedEarly


def test_a_free_port() -> None:
    port = free_port()
    found = check_ports(Settings(port=port))
    assert [one.found for one in found.findings] == [f"http://127.0.0.1:{port} is free for the API"]
    assert found.api_url == ""
    assert check_ports(Settings(port=0)).findings[0].found == "the API takes a free one"


@pytest.mark.parametrize(
    ("command", "is_ours"),
    [
        ("/srv/viscpm/.venv/bin/python /srv/viscpm/.venv/bin/viscpm worker chat", True),
        ("/usr/bin/viscpm serve", True),
        ("python -m service.process.cli worker paint", True),
        ("/srv/viscpm/.venv/bin/python -m http.server 9100", False),
        ("/opt/prometheus --config.file /etc/viscpm", False),
        ("", False),
    ],
)
def test_a_process_is_known_by_its_program_and_not_by_its_folder(command: str, is_ours: bool) -> None:
    assert Holder(1, tuple(command.split(" "))).is_of_this_service == is_ours


def test_a_taken_one_is_told_with_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        api, metrics = check_ports(Settings(port=free_port(), worker_metrics_port=port)).findings
    assert api.level == "ok"
    assert metrics.level == "problem" and "VISCPM_WORKER_METRICS_PORT" in metrics.fix
    assert f"port {port} belongs to process {os.getpid()} (" in metrics.cause


def test_the_services_own_api_is_no_problem() -> None:
    with ServedEarly() as port:
        found = check_ports(Settings(port=port))
    assert found.api_url == f"http://127.0.0.1:{port}"
    assert found.findings[0].found == f"this service's API runs on http://127.0.0.1:{port}"


@pytest.mark.slow
def test_an_address_of_another_machine() -> None:
    [told] = check_ports(Settings(host="192.0.2.7", auth="off")).findings
    assert told.level == "problem" and "this machine has no such address" in told.cause and "VISCPM_HOST" in told.fix
