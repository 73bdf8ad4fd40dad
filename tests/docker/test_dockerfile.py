"""What each image holds, by the Dockerfile's own COPY lines: laid out in a folder, and run from there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.own_process

ROOT = Path(__file__).parents[2]
TARGETS = ("api", "safety", "worker", "training")


def copied(target: str) -> list[tuple[list[str], str]]:
    """(sources, destination) of the stage that builds a target, and of those that it stands on."""
    stages: dict[str, tuple[str, list[tuple[list[str], str]]]] = {}
    name = ""
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if found := re.match(r"FROM (\S+) AS (\S+)$", line):
            name = found[2]
            stages[name] = found[1], []
        elif line.startswith("COPY ") and "--from" not in line:
            *sources, destination = line.split()[1:]
            stages[name][1].append((sources, destination))
    lines: list[tuple[list[str], str]] = []
    for stage in (f"build-{target}", f"weights-{target}"):
        while stage in stages:
            parent, copies = stages[stage]
            lines = copies + lines
            stage = parent
    return lines


@pytest.fixture(scope="module", params=TARGETS)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A target's name, and a folder laid out as its build stage lays out /src."""
    folder = tmp_path_factory.mktemp(request.param)
    ignored = shutil.ignore_patterns("__pycache__")
    for sources, destination in copied(request.param):
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / destination, ignore=ignored, dirs_exist_ok=True)
            else:
                into = folder / destination if destination.endswith("/") else (folder / destination).parent
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)
    return request.param, folder


# An editable installation would lend what an image lacks
ALONE = "import sys; sys.meta_path = [one for one in sys.meta_path if 'editable' not in str(one).lower()]; "


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ALONE + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_only_what_a_role_needs_is_in_its_image(image: tuple[str, Path]) -> None:
    target, folder = image
    rooms = {path.name for path in (folder / "models").iterdir()} - {"__init__.py", "jobs.py"}
    weights = sorted(folder.rglob("*.safetensors"))
    if target in ("api", "safety"):
        assert rooms == set() and not weights
    elif target == "worker":
        assert rooms == {"networks", "checkpoints", "engines", "emoji"} and weights
        assert not list((folder / "models/emoji").rglob("*.py"))
    else:
        assert {"training", "evaluation", "emoji", "datasets", "parity"} < rooms


@pytest.mark.process_tree
def test_the_role_starts_from_what_is_there(image: tuple[str, Path]) -> None:
    target, folder = image
    code = {
        "api": "from service.http.app import create_app; from service.core.settings import Settings; "
        "create_app(Settings()).openapi(); import service.process.cli, service.process.roles; "
        "from service.client.commands import batch, bench, chat, completion, conversations, jobs, paint",
        "safety": "import service.worker.worker, service.worker.safety_engine, safety.engine",
        "worker": "import service.worker.worker, models.engines.chat.engine, models.engines.paint.engine; "
        "from models.checkpoints.bundled import bundled_checkpoint; assert bundled_checkpoint('chat').is_dir()",
        "training": "import models.training.cli, models.evaluation.cli",
    }[target]
    started = run(folder, code + "; import service, pathlib; print(pathlib.Path(service.__file__).parents[1])")
    assert started.returncode == 0, started.stderr
    assert Path(started.stdout.strip()) == folder, "another installation answered"


def test_what_an_image_lacks_is_refused_in_one_line(image: tuple[str, Path]) -> None:
    target, folder = image
    refused = run(folder, "from service.process.cli import main; sys.exit(main(['finetune', '--help']))")
    if target == "training":
        assert refused.returncode == 0
    else:
        assert refused.returncode == 1
        [line] = refused.stderr.splitlines()
        assert line.startswith("viscpm: `viscpm finetune` needs models.training")
