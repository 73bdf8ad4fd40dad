"""An API process that is killed in the middle of a batch: another one goes on, no line is executed twice or lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.process.parent_death import dies_with_parent
from tests.service.http.batch_calls import begin, ended, question, request_line, results
from tests.service.tree import ROOT, eventually, log_lines
from tests.service.web import Service, serving

NUM_LINES = 12


def start_api(settings: Settings) -> "subprocess.Popen[bytes]":
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"models", "cuda_memory_cpmbee_max"})
    environment = {f"VISCPM_{name.upper()}": str(value) for name, value in changed.items()}
    command = [sys.executable, "-m", "service.process.cli", "api", "--port", "0"]
    return subprocess.Popen(
        dies_with_parent(command), env=os.environ | environment | {"PYTHONPATH": str(ROOT)}, cwd=ROOT
    )


@pytest.mark.own_process
async def test_another_process_goes_on_with_the_batch(settings: Settings, worker_log: Path) -> None:
    async with serving(settings.model_copy(update={"batch_jobs": 0})) as asked:
        await asked.ready()
        before = len(log_lines(worker_log, "admit"))
        lines = [request_line(f"q{number}", question(f"stream {100 + number}")) for number in range(NUM_LINES)]
        batch = await begin(asked.client, lines)
        killed = start_api(settings)
        try:
            await eventually(lambda: _is_in_the_middle(asked, batch["id"]), 60.0)
        finally:
            killed.kill()
            killed.wait()
        counts = (await asked.client.get(f"/v1/batches/{batch['id']}")).json()["request_counts"]
        assert 0 < counts["completed"] < NUM_LINES
        async with serving(settings):
            done = await ended(asked.client, batch["id"], 60.0)
        assert (done["status"], done["request_counts"]["completed"]) == ("completed", NUM_LINES)
        answered = await results(asked.client, done["output_file_id"])
        assert set(answered) == {f"q{number}" for number in range(NUM_LINES)}
        for number in range(NUM_LINES):
            text = answered[f"q{number}"]["response"]["body"]["choices"][0]["message"]["content"]
            assert text.split() == [f"w{word}" for word in range(100 + number)]
        jobs = [line[2] for line in log_lines(worker_log, "admit")[before:]]
        assert len(jobs) == len(set(jobs)) == NUM_LINES, "each line was executed once"
        assert await asked.accounting() == {"done": NUM_LINES}


async def _is_in_the_middle(service: Service, batch_id: str) -> bool:
    """Some lines are done, and some are under way."""
    counts = (await service.client.get(f"/v1/batches/{batch_id}")).json()["request_counts"]
    return counts["completed"] >= 2 and int(await service.redis.zcard("{viscpm}:slots:chat")) > 0
