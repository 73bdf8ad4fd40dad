"""`viscpm keys`: texts on the standard output alone, once; nothing secret in a list; one line for what is wrong."""

import json
from pathlib import Path

import pytest

from service.access.api_keys import id_in
from service.process import cli
from service.process.embedded_redis import EmbeddedServer


@pytest.fixture(autouse=True)
def on_this_server(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_REDIS_URL", redis_url)


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert cli.main(["keys", "list", "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_a_keys_life(capsys: pytest.CaptureFixture[str]) -> None:
    made = ["keys", "create", "shop", "--tenant", "acme", "--scopes", "paint,chat", "--expires", "90d"]
    assert cli.main([*made, "--models", "chat", "--requests-per-min", "60", "--max-jobs", "2", "--weight", "3"]) == 0
    text, told = capsys.readouterr()
    key_id = id_in(text.strip())
    assert key_id and key_id in told and text.strip() not in told
    [row] = listed(capsys)
    assert (row["id"], row["state"], row["tenant"], row["scopes"]) == (key_id, "live", "acme", "chat,paint")
    assert (row["models"], row["requests_per_min"], row["max_jobs"], row["weight"]) == ("chat", 60, 2, 3)

    assert cli.main(["keys", "rotate", key_id, "--overlap", "1h"]) == 0
    rotated, told = capsys.readouterr()
    assert id_in(rotated.strip()) == key_id and rotated != text and "is taken until" in told

    assert cli.main(["keys", "revoke", key_id]) == 0
    assert "within 5 s" in capsys.readouterr().out
    assert [row["state"] for row in listed(capsys)] == ["revoked"]
    assert cli.main(["keys", "rotate", key_id]) == 1
    assert cli.main(["keys", "list"]) == 0
    printed = capsys.readouterr().out
    assert f"id={key_id}" in printed and "vk-" not in printed and "sha256" not in printed


@pytest.mark.slow
def test_a_key_is_changed_and_what_is_not_named_stays(capsys: pytest.CaptureFixture[str]) -> None:
    made = ["keys", "create", "shop", "--tenant", "acme", "--expires", "1h", "--max-jobs", "2", "--models", "chat"]
    assert cli.main(made) == 0
    key_id = id_in(capsys.readouterr().out.strip())
    [before] = listed(capsys)
    limits = ["--requests-per-minute", "60", "--tokens-per-min", "9000"]
    assert cli.main(["keys", "change", "shop", *limits, "--scopes", "chat", "--expires", "never", "--json"]) == 0
    told = capsys.readouterr()
    assert "within 5 s" in told.err and "vk-" not in told.out
    [row] = listed(capsys)
    assert [row] == json.loads(told.out)
    changed = {"scopes": "chat", "expires": "", "requests_per_min": 60, "tokens_per_min": 9000}
    assert row == before | changed and (row["max_jobs"], row["models"]) == (2, "chat")

    assert (
        cli.main(["keys", "change", key_id, "--name", "store", "--max-jobs", "0", "--models", "", "--expires", "1d"])
        == 0
    )
    capsys.readouterr()
    [row] = listed(capsys)
    assert (row["name"], row["max_jobs"], row["models"], row["requests_per_min"]) == ("store", 0, "", 60)
    assert row["expires"] and row["state"] == "live"

    assert cli.main(["keys", "create", "store"]) == 0
    capsys.readouterr()
    assert cli.main(["keys", "change", "store", "--max-jobs", "1"]) == 1
    assert key_id in capsys.readouterr().err, "which of the two is meant is for the operator to say"
    assert cli.main(["keys", "revoke", key_id]) == 0
    capsys.readouterr()
    assert cli.main(["keys", "change", key_id, "--expires", "never"]) == 1
    assert "that is not revoked" in capsys.readouterr().err
    assert {row["state"] for row in listed(capsys) if row["id"] == key_id} == {"revoked"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "COMMAND"),
        (["create"], 2, "name"),
        (["create", "a b"], 2, "'a b' is no name: 1 to 64 letters"),
        (["create", "a", "--tenant", "x:y"], 2, "'x:y' is no name"),
        (["create", "a", "--scopes", "chat,all"], 2, "'chat,all' names no scopes: of chat,paint,moderate,admin"),
        (["create", "a", "--expires", "soon"], 2, "'soon' is no span: a number and s, m, h or d"),
        (["create", "a", "--max-jobs", "-1"], 2, "'-1' is no count"),
        (["create", "a", "--weight", "0"], 2, "'0' is no weight: whole numbers from 1 to 1000"),
        (["revoke", "0" * 12], 1, "no key has the id 000000000000"),
        (["rotate", "0" * 12], 1, "no live key has the id"),
        (["change", "nobody", "--max-jobs", "1"], 1, "no key that is not revoked has the id or name nobody"),
        (["change", "nobody"], 2, "nothing is changed"),
        (["change", "nobody", "--expires", "later"], 2, "'later' is no span"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        got = cli.main(["keys", *arguments])
    except SystemExit as end:
        got = int(end.code or 0)
    output = capsys.readouterr()
    assert got == code and output.out == ""
    assert message in output.err and output.err.count("\n") == 1 and output.err.startswith("viscpm")


def test_the_server_of_a_running_serve_is_found(
    monkeypatch: pytest.MonkeyPatch, own_server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VISCPM_REDIS_URL")
    monkeypatch.setenv("VISCPM_DATA_DIR", str(tmp_path))
    assert cli.main(["keys", "create", "here"]) == 0
    capsys.readouterr()
    assert [row["name"] for row in listed(capsys)] == ["here"]
    own_server.stop()
    assert cli.main(["keys", "list"]) == 2
    assert "no `viscpm serve` runs with the data folder" in capsys.readouterr().err
