"""The bodies of requests, as openapi.yaml tells of them, with examples."""

from typing import Any


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json_body(name: str, example: dict[str, Any] | None = None) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": _reference(name)} | ({} if example is None else {"example": example})
    return {"required": True, "content": {"application/json": described}}


# Generators know a file by `format`, and OpenAPI 3.1 by the other
_FILE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}

CHAT_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _reference("ChatRequest")},
        "multipart/form-data": {"schema": _reference("ChatForm")},
    },
}


def chat_form(request: dict[str, Any]) -> dict[str, Any]:
    """The schema of /chat's form by that of its JSON.

    One by itself, and no extension of the other: generators of clients make a class of each.
    """
    fields = {name: _of_a_form(field) for name, field in request["properties"].items()}
    fields["include"] = {"type": "string", "description": "As in JSON; several with commas between them."}
    fields["image"] = _FILE | {"description": "The picture as a file; text is what it is in JSON."}
    described = "The fields of ChatRequest as text, and the picture as the file `image`."
    return request | {"title": "ChatForm", "description": described, "properties": fields}


def _of_a_form(field: dict[str, Any]) -> dict[str, Any]:
    """Without null, which text cannot be."""
    kept = {name: value for name, value in field.items() if name != "anyOf" and (name, value) != ("default", None)}
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        kept |= kinds[0]
    elif kinds:
        kept["anyOf"] = kinds
    if isinstance(kept.get("type"), list):
        [kept["type"]] = [name for name in kept["type"] if name != "null"]
    if "enum" in kept:
        kept["enum"] = [value for value in kept["enum"] if value is not None]
    return kept


PAINT_BODY = _json_body("PaintRequest")
IMAGES_BODY = _json_body(
    "ImageGenerationRequest",
    {"model": "gpt-image-1", "prompt": "雪山下的红色小屋", "size": "1024x1024", "seed": 7},
)
TXT2IMG_BODY = _json_body(
    "Txt2ImgRequest", {"prompt": "a red apple", "steps": 25, "sampler_name": "DPM++ 2M", "seed": -1}
)
OPTIONS_BODY = _json_body("OptionsRequest", {"sd_model_checkpoint": "viscpm-paint"})
MODERATION_BODY = _json_body("ModerationRequest")
REGENERATE_BODY = _json_body("RegenerateRequest", {"do_sample": True, "seed": 8})
RENAME_BODY = _json_body("RenameRequest", {"title": "红色小屋"})
BRANCH_BODY = _json_body("BranchRequest", {"turn": 2})
IMPORT_BODY = _json_body(
    "ImportRequest",
    {
        "object": "conversation.export",
        "version": 1,
        "turns": [{"question": "图里有什么？", "answer": "一个红苹果。", "created": 1795904380}],
    },
)

_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
CHAT_COMPLETION_BODY = _json_body(
    "ChatCompletionRequest",
    {
        "model": "gpt-4o",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": _PICTURE}},
                    {"type": "text", "text": "What is in the picture?"},
                ],
            }
        ],
    },
)
RESPONSE_BODY = _json_body(
    "ResponseRequest", {"model": "gpt-4o", "input": "它是什么颜色？", "previous_response_id": "resp_…_1"}
)
BATCH_BODY = _json_body(
    "BatchCreateRequest",
    {
        "input_file_id": "file-…",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"order": "4711"},
    },
)
