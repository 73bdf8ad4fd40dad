"""One real service for the tests of all commands: keys asked for, jobs that take a moment, pictures that are real."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.process import cli
from tests.service.api_process import ApiProcess, api_process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/service/client/") and "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.own_process)


@dataclass(frozen=True)
class Running:
    """A service, a key for it, and the file in which its engines write what they do."""

    api: ApiProcess
    key: str
    engine_log: Path

    @property
    def variables(self) -> dict[str, str]:
        return {"VISCPM_URL": self.api.url, "VISCPM_API_KEY": self.key}

    def get(self, path: str) -> Any:
        with self.api.client() as client:
            return client.get(path, headers={"authorization": f"Bearer {self.key}"}).json()

    def admissions(self) -> int:
        """Jobs that an engine took in so far."""
        return sum(" admit " in line for line in self.engine_log.read_text().splitlines())


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("asked")
    engine_log = folder / "engine.log"
    variables = {"VISCPM_AUTH": "on", "VISCPM_TEST_STEP_S": "0.02", "VISCPM_TEST_LOG": str(engine_log)}
    with api_process(folder, **variables) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISCPM_REDIS_URL", api.redis_url)
        key = _created_key("commands")
        yield Running(api, key, engine_log)


def _created_key(name: str) -> str:
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        assert cli.main(["keys", "create", name]) == 0
    return printed.getvalue().strip()


@pytest.fixture
def asked(running: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """The service, as the environment of this test names it."""
    for name, value in running.variables.items():
        monkeypatch.setenv(name, value)
    return running


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command that goes well with --json; what it said."""

    def run(*arguments: str) -> Any:
        capsys.readouterr()
        assert cli.main([*arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run
