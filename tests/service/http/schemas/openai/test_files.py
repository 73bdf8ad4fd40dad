"""Files in OpenAI's shape."""

import msgspec

from service.batches.files import StoredFile
from service.http.schemas.openai.files import DeletedFile, FileObject


def test_a_file_has_openais_members() -> None:
    told = msgspec.to_builtins(FileObject.of(StoredFile("file-1", "a.jsonl", "batch", 7, 100, 200)))
    assert told == {
        "id": "file-1",
        "object": "file",
        "bytes": 7,
        "created_at": 100,
        "expires_at": 200,
        "filename": "a.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    assert msgspec.to_builtins(DeletedFile(id="file-1")) == {"id": "file-1", "object": "file", "deleted": True}
