"""`viscpm batch`: results in the order of their lines; killed twice, each line is done once, as the service counts."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.process import cli
from tests.service.client.conftest import Running
from tests.service.painter import UNKNOWN, colour_of

ROOT = Path(__file__).parents[4]
NUM_LINES = 200


def requests_used(service: Running) -> int:
    return sum(day["requests"] for day in service.get("/usage")["data"])


def jobs_done(service: Running) -> int:
    after, ids = "", set()
    while True:
        page = service.get(f"/jobs?limit=100&after={after}")
        ids |= {job["id"] for job in page["data"] if job["state"] == "done"}
        after = page["last_id"]
        if not page["has_more"]:
            return len(ids)


def test_killed_twice_each_line_is_done_once(asked: Running, tmp_path: Path) -> None:
    lines = [{"custom_id": f"line-{number}", "question": f"echo {number}"} for number in range(NUM_LINES)]
    file, out = tmp_path / "requests.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = requests_used(asked), asked.admissions(), jobs_done(asked)
    command = [sys.executable, "-m", "service.process.cli", "batch", str(file), "-o", str(out), "-c", "16"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

    kept = []
    for wanted in (NUM_LINES // 4, NUM_LINES // 2):
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as batch:
            _wait_for_journal(tmp_path / "out.jsonl.journal", wanted, batch)
            batch.send_signal(signal.SIGKILL)
        kept.append(_num_kept(tmp_path / "out.jsonl.journal"))
        assert batch.returncode == -signal.SIGKILL and not out.exists()
    assert kept[0] < kept[1] < NUM_LINES
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (ended.returncode, ended.stdout) == (0, f"{out}: 200 lines, 200 done, 0 refused, 0 failed\n"), ended.stderr

    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["custom_id"] for one in results] == [line["custom_id"] for line in lines]
    assert [one["response"]["body"]["answer"] for one in results] == [str(number) for number in range(NUM_LINES)]
    assert len({one["response"]["body"]["id"] for one in results}) == NUM_LINES
    after = requests_used(asked), asked.admissions(), jobs_done(asked)
    assert [now - then for now, then in zip(after, before, strict=True)] == [NUM_LINES] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "requests.jsonl"]


def _wait_for_journal(journal: Path, wanted: int, batch: "subprocess.Popen[bytes]") -> None:
    ends_s = time.monotonic() + 100
    while _num_kept(journal) < wanted:
        assert batch.poll() is None and time.monotonic() < ends_s
        time.sleep(0.01)


def _num_kept(journal: Path) -> int:
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


def test_questions_and_pictures_of_one_file(
    asked: Running, tmp_path: Path, told: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "red.png")
    lines = [
        {"question": "echo red", "image_file": "red.png"},
        {"custom_id": "house", "prompt": "paint 3", "n": 2, "seed": 5},
        {
            "url": "/v1/chat/completions",
            "body": {"model": "viscpm-chat", "messages": [{"role": "user", "content": "echo v1"}]},
        },
        {"url": "/v1/images/generations", "body": {"prompt": "a", "response_format": "b64_json"}},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    summary = told("batch", str(file), "--pictures", str(tmp_path / "pictures"))
    out = tmp_path / "requests.results.jsonl"
    assert summary == {"lines": 4, "done": 4, "refused": 0, "failed": 0, "results": str(out)}
    first, house, v1, images = [json.loads(line) for line in out.read_text().splitlines()]
    assert (first["custom_id"], first["error"], first["response"]["body"]["image"]) == ("1", None, True)
    assert v1["response"]["body"]["choices"][0]["message"]["content"] == "v1"
    written = [picture["file"] for picture in house["response"]["body"]["data"]]
    assert written == [f"{tmp_path}/pictures/000002-{index}.png" for index in (1, 2)]
    assert Image.open(written[1]).getpixel((1, 1)) == colour_of(6)
    assert "b64_json" not in out.read_text() and Path(images["response"]["body"]["data"][0]["file"]).exists()

    assert cli.main(["batch", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_lines_that_fail_are_counted(asked: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(f'{{"question": "reject"}}\n{{"question": "echo a"}}\n{{"prompt": "{UNKNOWN}"}}\n')
    assert cli.main(["batch", str(file), "-o", str(tmp_path / "out.jsonl")]) == 1
    assert "3 lines, 1 done, 0 refused, 2 failed" in capsys.readouterr().out
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["response"]["status_code"] for one in results] == [400, 200, 400]
    assert results[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"


def test_a_batch_goes_on_where_its_service_was_away(
    asked: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text('{"question": "echo a"}\n{"question": "echo b"}\n')
    command = ["batch", str(file), "--retry-for", "0.3"]
    monkeypatch.setenv("VISCPM_URL", "http://127.0.0.1:9")
    assert cli.main(command) == 4
    progress, error = capsys.readouterr().err.splitlines()
    assert progress == "(0 of 2 lines are done; the same command goes on with the others)"
    assert "is `viscpm serve` running?" in error
    monkeypatch.setenv("VISCPM_URL", asked.api.url)
    assert cli.main(command) == 0


def test_what_screens_refuse_is_told_apart() -> None:
    from service.client.commands.batch import _outcome

    refused = {"error": {"code": "content_policy_violation"}}
    assert _outcome({"status_code": 400, "body": refused}) == "refused"
    assert _outcome({"status_code": 200, "body": {"finish_reason": "content_filter"}}) == "refused"
    assert _outcome({"status_code": 200, "body": {"choices": [{"finish_reason": "content_filter"}]}}) == "refused"
    assert _outcome({"status_code": 200, "body": {"choices": [{"finish_reason": "stop"}]}}) == "done"
    assert _outcome({"status_code": 500, "body": {"error": {"code": "job_failed"}}}) == "failed"
