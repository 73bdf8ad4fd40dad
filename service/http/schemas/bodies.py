"""The bodies of requests, as openapi.yaml tells of them, with examples."""

from typing import Any


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json_body(name: str, example: dict[str, Any] | None = None) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": _reference(name)} | ({} if example is None else {"example": example})
    return {"required": True, "content": {"application/json": described}}


CHAT_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _reference("ChatRequest")},
        "multipart/form-data": {
            "schema": {
                "allOf": [_reference("ChatRequest")],
                "properties": {"image": {"type": "string", "contentMediaType": "application/octet-stream"}},
                "description": "The same fields as text, and the picture as the file `image`.",
            }
        },
    },
}
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
