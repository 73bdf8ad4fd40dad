"""schemathesis over openapi.yaml against the server: every operation, all of its checks, and one after the other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import SETTINGS
from tests.service.api_process import ROOT, ApiProcess, api_process

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("schema"), pytest.mark.timeout(400)]

EXAMPLES = os.environ.get("VISCPM_TEST_SCHEMA_EXAMPLES", "6")  # of each operation: a minute and a half in all
LIMIT_S = 50.0  # for one, on a machine that is busy with other things
_FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def keyed_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    settings = {"VISCPM_AUTH": "on", "VISCPM_TRUSTED_PROXIES": "127.0.0.1/32", "VISCPM_ROOT_PATH": ""}
    with api_process(tmp_path_factory.mktemp("schema"), **SETTINGS | settings) as running:
        yield running


def test_the_service_is_what_openapi_yaml_says(keyed_api: ApiProcess, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_FOLDER / "schemathesis.toml")),
        *("run", str(ROOT / "openapi.yaml"), "--url", keyed_api.url, "-H", f"Authorization: Bearer {_key(keyed_api)}"),
        *("--seed", "1", "-n", EXAMPLES, "--no-color"),
    ]
    variables = {"SCHEMATHESIS_HOOKS": "tests.clients.schema_hooks", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S * int(EXAMPLES),
    )
    assert done.returncode == 0, done.stdout
    assert "Tested: " in done.stdout and "Traceback" not in keyed_api.log, keyed_api.log


def _key(api: ApiProcess) -> str:
    command = [sys.executable, "-m", "service.process.cli", "keys", "create", "schema", "--scopes", "admin"]
    environment = os.environ | {"VISCPM_REDIS_URL": api.redis_url}
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True, stderr=subprocess.DEVNULL).strip()
