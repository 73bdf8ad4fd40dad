"""Prometheus' files by promtool, and a real Prometheus that scrapes a real running service."""

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.tree import FAST_LEASES, Tree, wait_for

ROOT = Path(__file__).parents[2]
Tool = Callable[[str], str]

pytestmark = pytest.mark.timeout(180)


def test_promtool_accepts_the_configuration_and_the_rules(tool: Tool) -> None:
    for command in (["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"]):
        process = subprocess.run(
            [tool("promtool"), *command], capture_output=True, text=True, cwd=ROOT / "docker", timeout=60
        )
        assert process.returncode == 0, process.stdout + process.stderr


def test_each_alert_fires_by_its_fault_and_stays_quiet_without(tool: Tool) -> None:
    cases = Path(__file__).with_name("alerts.test.yml")
    process = subprocess.run(
        [tool("promtool"), "test", "rules", str(cases)], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stdout + process.stderr
    rules = yaml.safe_load((ROOT / "docker/alerts.yml").read_text())["groups"][0]["rules"]
    tested = [check for case in yaml.safe_load(cases.read_text())["tests"] for check in case["alert_rule_test"]]
    alerts = {rule["alert"] for rule in rules}
    assert {check["alertname"] for check in tested if check.get("exp_alerts")} == alerts
    assert {check["alertname"] for check in tested if not check.get("exp_alerts")} == alerts
    assert all(f"`{alert}`" in (ROOT / "docs/operations/deployment.md").read_text() for alert in alerts)


@pytest.fixture
def worker_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def chat_tree(tmp_path: Path, worker_port: int) -> Iterator[Tree]:
    variables = {"VISCPM_WORKER_METRICS_PORT": str(worker_port), **FAST_LEASES}
    running = Tree(tmp_path / "data", "--models", "chat", **variables)
    try:
        yield running.wait_ready()
    finally:
        running.stop()


def test_promtool_accepts_the_metrics(tool: Tool, chat_tree: Tree) -> None:
    with chat_tree.client() as client:
        page = client.get("/metrics").text
    process = subprocess.run([tool("promtool"), "check", "metrics"], input=page, capture_output=True, text=True)
    assert process.returncode in (0, 3), process.stdout + process.stderr  # 3: style remarks alone
    assert "error" not in process.stderr.lower(), process.stderr


def test_prometheus_counts_each_request_once(tool: Tool, chat_tree: Tree, worker_port: int, tmp_path: Path) -> None:
    """Both ways into the metrics at once, as docker/prometheus.yml has it: the API's page and the worker's own."""
    api = chat_tree.url.removeprefix("http://")
    jobs = [
        {"job_name": "viscpm-api", "params": {"scope": ["api"]}, "static_configs": [{"targets": [api]}]},
        {"job_name": "viscpm-worker", "static_configs": [{"targets": [f"127.0.0.1:{worker_port}"]}]},
    ]
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        tool("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with open(tmp_path / "prometheus.log", "wb") as log, subprocess.Popen(command, stderr=log) as prometheus:
        try:
            wait_for(lambda: _query(port, "sum(up)") == 2, 60, "two healthy targets")
            with chat_tree.client() as client:
                for _ in range(3):
                    body = {"question": "hello", "max_new_tokens": 4, "num_beams": 1}
                    assert client.post("/chat", json=body).status_code == 200
            wait_for(lambda: _query(port, 'sum(viscpm_requests_total{route="/chat"})') == 3, 20, "three requests")
            wait_for(lambda: _query(port, "sum(viscpm_jobs_started_total)") == 3, 20, "three started jobs, not six")
        finally:
            prometheus.terminate()


def _query(port: int, expression: str) -> float | None:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            answer: dict[str, Any] = json.load(response)
    except OSError:
        return None
    result = answer["data"]["result"]
    return float(result[0]["value"][1]) if result else None
