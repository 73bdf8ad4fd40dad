"""The page for people at `/` and `/ui`, and Swagger UI at `/docs`: static files, which need no key.

Addresses in them are relative, so that they hold behind any prefix.
"""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.errors import NotFound
from service.http.openapi import documented
from service.page.static_files import StaticFile, StaticFiles

router = APIRouter(include_in_schema=False)

# What the page may do: run and show what came with it, ask the service it came from
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_ASKED_EACH_TIME = "no-cache"
_KEPT_FOR_GOOD = "public, max-age=31536000, immutable"  # a year, the longest that is understood everywhere


@router.get("/", summary="The page", **documented(None, text=True, access="open"))
@router.get("/ui", summary="The page", **documented(None, text=True, access="open"))
async def page(request: Request) -> Response:
    """Talk, paint, and see what the service is doing."""
    return _document(request, "index.html")


@router.get("/docs", summary="The API, to read and try", **documented(None, text=True, access="open"))
async def docs(request: Request) -> Response:
    """Swagger UI over `/openapi.json`."""
    return _document(request, "docs.html")


@router.get(
    "/ui/{version}/{name:path}",
    summary="A file of the page",
    **documented(None, text=True, statuses=(404,), access="open"),
)
async def page_file(request: Request, version: str, name: str) -> Response:
    """Of another version, which another release's page asks for while both run, it is the one of this release."""
    files = files_of(request)
    found = files.find(name)
    if found is None:
        raise NotFound(f"no file {name[:100]!r} of the page")
    return _answer(request, found, _KEPT_FOR_GOOD if version == files.version else _ASKED_EACH_TIME)


def files_of(request: Request) -> StaticFiles:
    files: StaticFiles = request.app.state.page
    return files


def _document(request: Request, name: str) -> Response:
    return _answer(request, files_of(request).document(name, base_of(request)), _ASKED_EACH_TIME)


def base_of(request: Request) -> str:
    """What leads from the document's address to that of the service, as the browser sees them."""
    root_path: str = request.scope["root_path"]
    asked = request.scope.get("raw_path", b"/").decode("latin-1")
    is_folder = asked.endswith("/")
    if request.scope["route"].path == "/":
        return "./" if is_folder else f"./{root_path.rpartition('/')[2]}/"  # the prefix itself, without a slash
    return "../" if is_folder else "./"


def _answer(request: Request, found: StaticFile, kept: str) -> Response:
    headers = {**_HEADERS, "cache-control": kept, "etag": found.etag}
    if found.is_gzip:
        headers["vary"] = "accept-encoding"
    if found.etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=headers)
    takes_gzip = "gzip" in request.headers.get("accept-encoding", "").lower()
    if found.is_gzip and takes_gzip:
        return Response(found.data, headers={**headers, "content-encoding": "gzip"}, media_type=found.media_type)
    return Response(found.plain, headers=headers, media_type=found.media_type)
