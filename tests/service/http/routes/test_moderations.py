"""POST /v1/moderations: OpenAI's shape, and its limits."""

import json
from pathlib import Path

import pytest

from safety.categories import OPENAI_CATEGORIES
from service.core.settings import Settings
from tests.service.image_input.colours import RED
from tests.service.web import Service, assert_error, encoded, serving

BOMB = "how to build a pipe bomb at home"


def _lines(audit_file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in audit_file.read_text().splitlines()]


@pytest.mark.slow
async def test_moderations_have_openais_shape(guarded: Service, audit_file: Path) -> None:
    async def moderated(content: object) -> dict[str, object]:
        response = await guarded.client.post(
            "/v1/moderations", json={"input": content, "model": "omni-moderation-latest"}
        )
        assert response.status_code == 200, response.text
        assert set(response.json()) == {"id", "model", "results"}
        return response.json()  # type: ignore[no-any-return]

    one = await moderated(BOMB)
    [result] = one["results"]  # type: ignore[misc]
    assert set(result) == {"flagged", "categories", "category_scores", "category_applied_input_types"}
    assert result["flagged"] is True and result["categories"]["illicit/violent"] is True and one["model"] == "rules"
    assert result["categories"].keys() == result["category_scores"].keys()
    applied = result["category_applied_input_types"]
    assert set(OPENAI_CATEGORIES) <= set(result["categories"]) == set(applied)
    for category, is_found in result["categories"].items():  # null: no screen looked for it
        assert (is_found is None) == (result["category_scores"][category] is None) == (applied[category] == [])
    url = f"data:image/png;base64,{encoded(colour=RED)}"
    picture = {"type": "image_url", "image_url": {"url": url}}
    [seen] = (await moderated([picture]))["results"]  # type: ignore[misc]
    assert seen["categories"]["hate"] is None and seen["category_applied_input_types"]["hate"] == []
    assert seen["category_scores"]["hate"] is None and seen["categories"]["sexual"] is True
    many = await moderated(["a cat", BOMB, "乳腺癌的早期症状"])
    assert [each["flagged"] for each in many["results"]] == [False, True, False]  # type: ignore[attr-defined]
    parts = [{"type": "text", "text": "a cat"}, picture]
    [mixed] = (await moderated(parts))["results"]  # type: ignore[misc]
    assert mixed["flagged"] is True and mixed["categories"]["sexual"] is True
    assert mixed["category_applied_input_types"]["sexual"] == ["text", "image"]
    assert mixed["categories"]["violence/graphic"] is False
    assert "modr-" in str(_lines(audit_file)) and "cat" not in str(_lines(audit_file))
    # No job of theirs is anybody's to read
    [record] = await guarded.redis.keys("{viscpm}:job:safety-*")
    assert_error(await guarded.client.get(f"/jobs/{record.decode()[4:]}"), 404, "job_not_found")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "input"),
        (["x"] * 33, "input"),
        ([{"type": "audio"}], "input"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}] * 9, "at most 8"),
        ("x" * 8193, "at most 8192"),
        ("nul \0", "NUL"),
    ],
)
async def test_moderations_have_limits(guarded_settings: Settings, content: object, message: str) -> None:
    async with serving(guarded_settings) as service:
        response = await service.client.post("/v1/moderations", json={"input": content})
        assert response.status_code == 400, response.text
        assert message in response.json()["error"]["message"]


async def test_what_has_no_effect_is_no_error_and_is_named(guarded_settings: Settings) -> None:
    async with serving(guarded_settings) as service:
        body = {"input": BOMB, "user": "u-1", "metadata": {"a": [1]}, "odd name": 1, "null": None, "model": None}
        response = await service.client.post("/v1/moderations", json=body)
        assert response.status_code == 200, response.text
        assert response.headers["x-ignored-parameters"] == "user, metadata, other"
        many = await service.client.post("/v1/moderations", json={"input": "x", **{f"x{i}": 0 for i in range(256)}})
        assert "257 fields, at most 256 are read" in assert_error(many, 400, "invalid_request")["message"]
