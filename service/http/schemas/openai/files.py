"""Files in OpenAI's shape."""

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from service.batches.files import StoredFile


class FileObject(msgspec.Struct, kw_only=True):
    id: str
    bytes: int
    created_at: Annotated[int, Meta(description="Unix time in seconds.")]
    expires_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"

    @classmethod
    def of(cls, file: StoredFile) -> Self:
        return cls(
            id=file.id,
            bytes=file.size_bytes,
            created_at=file.created,
            expires_at=file.expires,
            filename=file.name,
            purpose="batch" if file.purpose == "batch" else "batch_output",
        )


class FileList(msgspec.Struct, kw_only=True):
    """A page of files; `last_id` as `after` gives the next one."""

    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


class DeletedFile(msgspec.Struct, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["file"] = "file"


# What POST /v1/files takes, in openapi.yaml
FILE_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "contentMediaType": "application/jsonl"},
                    "purpose": {"type": "string", "enum": ["batch"]},
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {
                        "type": "integer",
                        "minimum": 3600,
                        "maximum": 2592000,
                        "description": "At most VISCPM_FILE_TTL_S, which is how long files are kept without it.",
                    },
                },
                "additionalProperties": False,
            }
        }
    },
}
