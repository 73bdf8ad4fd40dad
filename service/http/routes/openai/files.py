"""/v1/files: what batches read and write (docs/guides/batches.md)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from service.core.errors import Cancelled, InvalidRequest, UnsupportedMedia
from service.http.dependencies import state_of, tenant_of
from service.http.forms import read_upload
from service.http.middleware import release_body
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.openai.files import FILE_BODY, DeletedFile, FileList, FileObject
from service.http.schemas.requests import MAX_ID_CHARS

router = APIRouter(prefix="/v1/files", tags=["batches"])

_TTL, _ANCHOR = "expires_after[seconds]", "expires_after[anchor]"
_TTL_S = range(3600, 2_592_001)
_MAX_NAME_CHARS = 255

FileId = Annotated[str, Path(max_length=MAX_ID_CHARS)]


@router.post(
    "",
    summary="Upload a file",
    **documented(FileObject, body=FILE_BODY, statuses=(408, 413, 415, 503, 507), access="any"),
)
async def create_file(request: Request) -> Response:
    """A file of requests for a batch, a JSON object a line. It expires after VISCPM_FILE_TTL_S, or earlier if asked."""
    state = state_of(request)
    state.refuse_while_draining()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "multipart/form-data":
        raise UnsupportedMedia(f"Content-Type must be multipart/form-data, got {media[:60] or 'none'}")
    try:
        fields, upload = await read_upload(request)
    except ClientDisconnect:
        raise Cancelled("the client went away before its request was read") from None
    for name in fields:
        if name not in ("purpose", _TTL, _ANCHOR):
            allowed = f"file, purpose, {_ANCHOR}, {_TTL}"
            raise InvalidRequest(f"{name[:80]}: unknown field; allowed: {allowed}", param=name[:80])
    if fields.get("purpose") != "batch":
        got = fields.get("purpose", "")[:40] or "none"
        raise InvalidRequest(f"purpose: must be batch, got {got}", param="purpose")
    ttl_s = min(_ttl_s(fields) or state.settings.file_ttl_s, state.settings.file_ttl_s)
    name = upload.name[:_MAX_NAME_CHARS]
    kept = await state.files.put(tenant_of(request), name, "batch", upload.content, ttl_s)
    release_body(request.scope)
    return answered(FileObject.of(kept))


@router.get("", summary="Files", **documented(FileList, statuses=(404, 503), access="any"))
async def list_files(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str, Query(max_length=MAX_ID_CHARS, description="`last_id` of the page before.")] = "",
    order: Annotated[Literal["asc", "desc"], Query(description="By when each was made.")] = "desc",
    purpose: Annotated[Literal["batch", "batch_output"] | None, Query(description="Only those.")] = None,
) -> Response:
    """Those of one's own tenant. A page may be shorter than `limit` and not the last: `has_more` says."""
    page = await state_of(request).files.page(tenant_of(request), limit, after, order == "desc")
    listed = [FileObject.of(one) for one in page.items if purpose in (None, one.purpose)]
    first_id = listed[0].id if listed else None
    return answered(FileList(data=listed, has_more=page.has_more, first_id=first_id, last_id=page.last_id))


@router.get("/{file_id}", summary="A file", **documented(FileObject, statuses=(404, 503), access="any"))
async def get_file(request: Request, file_id: FileId) -> Response:
    """What is known of it."""
    return answered(FileObject.of(await state_of(request).files.get(tenant_of(request), file_id)))


@router.get(
    "/{file_id}/content", summary="A file's content", **documented(None, lines=True, statuses=(404, 503), access="any")
)
async def get_file_content(request: Request, file_id: FileId) -> Response:
    """The file itself, byte for byte."""
    files, tenant = state_of(request).files, tenant_of(request)
    await files.get(tenant, file_id)
    return StreamingResponse(files.lines(tenant, file_id), media_type="application/jsonl")


@router.delete("/{file_id}", summary="Delete a file", **documented(DeletedFile, statuses=(404, 409, 503), access="any"))
async def delete_file(request: Request, file_id: FileId) -> Response:
    """409 while a batch that has not ended reads it."""
    await state_of(request).files.delete(tenant_of(request), file_id)
    return answered(DeletedFile(id=file_id))


def _ttl_s(fields: dict[str, str]) -> int | None:
    """What the client asks for; None: nothing. Raises InvalidRequest."""
    if _TTL not in fields and _ANCHOR not in fields:
        return None
    if fields.get(_ANCHOR) != "created_at":
        got = fields.get(_ANCHOR, "")[:40] or "none"
        raise InvalidRequest(f"{_ANCHOR}: must be created_at, got {got}", param=_ANCHOR)
    text = fields.get(_TTL, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) in _TTL_S):
        allowed = f"{_TTL_S.start} to {_TTL_S.stop - 1}"
        raise InvalidRequest(f"{_TTL}: must be {allowed}, got {text[:40] or 'none'}", param=_TTL)
    return int(text)
