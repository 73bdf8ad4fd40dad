"""The error tree. Each class is one error code of the API; status codes live here alone.

Raised deep, rendered once (service/http/error_handlers.py) as `{"error": {"message", "type", "param", "code"}}`.
"""

from collections.abc import Iterator


class ServiceError(Exception):
    """500: something failed that has no code of its own. Base of all others: an answer of the API that is no result.

    Args:
        message: what was wrong, what was got, what is allowed.
        param: the request field at fault.
        retry_after_s: sent as `Retry-After` where trying again helps.
        extra: further members of the error object, such as a verdict.
        headers: sent with the answer.
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    closes_connection = False  # not while a body is still coming: closing then would reset it and lose the answer

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        extra: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.extra = extra or {}
        self.headers = headers or {}


class Unavailable(ServiceError):
    """503: something that the service needs is away for now. Always with Retry-After."""

    status = 503
    type = "service_unavailable"
    code = "service_unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class BusUnavailable(Unavailable):
    """Redis does not answer, or refuses writes because it is full."""

    code = "bus_unavailable"


class ModelUnavailable(Unavailable):
    """The model cannot take the job now: it is not offered here, or is being replaced by another."""

    code = "model_unavailable"


class NoWorker(ModelUnavailable):
    """No worker of the model is alive; a job in hand ends so once the last one is gone for VISCPM_NO_WORKER_S."""

    code = "no_worker"


class ModelLoading(ModelUnavailable):
    """The workers of the model are alive and still loading it."""

    code = "model_loading"


class Draining(Unavailable):
    """This process is shutting down."""

    code = "draining"


class QueueFull(ServiceError):
    """429: no slot is free."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class TooManyWatchers(ServiceError):
    """429: one job's stream is followed by as many as may."""

    status = 429
    type = "rate_limit_error"
    code = "too_many_watchers"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class RateLimited(ServiceError):
    """429: the API key has used what it may in a minute, or has as many jobs as it may."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: int = 1, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s, headers=headers)


class JobFailed(ServiceError):
    """500: the job ended as failed; `code` is the engine's, or `job_failed`."""

    code = "job_failed"


class JobLost(ServiceError):
    """500: the server no longer knows a job that was accepted (its data was lost)."""

    code = "job_lost"


class InvalidRequest(ServiceError):
    """400: the request cannot be understood or asks for something outside the limits."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidBase64(InvalidRequest):
    """400: the picture's text is not base64."""

    code = "invalid_base64"


class InvalidImage(InvalidRequest):
    """400: the bytes are not a picture of an allowed format, or a broken one."""

    code = "invalid_image"


class ImageTooLarge(InvalidRequest):
    """400: more pixels than allowed."""

    code = "image_too_large"


class ImageFetchDisabled(InvalidRequest):
    """400: an http(s) URL where fetching is off."""

    code = "image_fetch_disabled"


class WebhooksDisabled(InvalidRequest):
    """400: a `callback_url` where there is no secret to sign with."""

    code = "webhooks_disabled"


class BlockedUrl(InvalidRequest):
    """400: a URL that the service does not connect to."""

    code = "blocked_url"


class ImageFetchFailed(InvalidRequest):
    """422: the URL's server gave no picture."""

    status = 422
    code = "unprocessable_media"


class ContextLengthExceeded(InvalidRequest):
    """400: the conversation does not fit the model, and `strict_length` forbids dropping turns."""

    code = "context_length_exceeded"


class InvalidSize(InvalidRequest):
    """400: a picture of these sides cannot be painted."""

    code = "invalid_size"


class UnknownWords(InvalidRequest):
    """400: a prompt of which the model's vocabulary has no word."""

    code = "unknown_words"

    def __init__(self, message: str, *, param: str | None = "prompt") -> None:
        super().__init__(message, param=param)


class RerankerNotConfigured(InvalidRequest):
    """400: reranking was asked for and no reranker's weights are configured."""

    code = "reranker_not_configured"


class ContentRefused(InvalidRequest):
    """400: a screen refused what was sent in, or every painted candidate. Carries the verdict."""

    code = "content_policy_violation"


class InvalidApiKey(ServiceError):
    """401: no key, or none that is good."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        challenge = 'Bearer realm="viscpm"' + ("" if is_missing else ', error="invalid_token"')
        super().__init__(message, headers={"www-authenticate": challenge})


class InsufficientScope(ServiceError):
    """403: the key is good, and not for this."""

    status = 403
    type = "invalid_request_error"
    code = "insufficient_scope"


class NotFound(ServiceError):
    """404: there is no such route."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ConversationNotFound(NotFound):
    """404: never existed, or was deleted."""

    code = "conversation_not_found"


class ConversationExpired(NotFound):
    """404: was not used for too long, or made room for others."""

    code = "conversation_expired"


class ResponseNotFound(NotFound):
    """404: no such response is kept: it never was, was not stored, or was deleted."""

    code = "response_not_found"


class JobNotFound(NotFound):
    """404: never existed, or its retention is over."""

    code = "job_not_found"


class FileNotFound(NotFound):
    """404: never existed, was deleted, or has expired."""

    code = "file_not_found"


class BatchNotFound(NotFound):
    """404: never existed, or ended longer ago than it is kept."""

    code = "batch_not_found"


class ImageNotFound(NotFound):
    """404: the address of a picture is none of this service, has expired, or the picture made room for others."""

    code = "image_not_found"


class ModelNotFound(NotFound):
    """404: no such model here."""

    code = "model_not_found"


class MethodNotAllowed(ServiceError):
    """405: the route does not take this method."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class NotAcceptable(ServiceError):
    """406: no representation that the Accept header allows."""

    status = 406
    type = "invalid_request_error"
    code = "not_acceptable"


class BodyTimeout(ServiceError):
    """408: the body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "body_timeout"
    closes_connection = True


class ConversationBusy(ServiceError):
    """409: another turn of the same conversation is being answered; a retry helps."""

    status = 409
    type = "invalid_request_error"
    code = "conversation_busy"

    def __init__(self, message: str, *, param: str | None = "conversation_id", retry_after_s: int = 1) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)


class FileInUse(ServiceError):
    """409: a batch that has not ended reads the file."""

    status = 409
    type = "invalid_request_error"
    code = "file_in_use"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=60, headers={"x-should-retry": "false"})


class IdempotencyKeyInUse(ServiceError):
    """409: the request that has the Idempotency-Key is still being answered; a retry gets its answer."""

    status = 409
    type = "invalid_request_error"
    code = "idempotency_key_in_use"

    def __init__(self, message: str, *, param: str | None = "Idempotency-Key", retry_after_s: int = 1) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)


class IdempotencyKeyReused(InvalidRequest):
    """422: the Idempotency-Key was used for another request."""

    status = 422
    code = "idempotency_key_reused"

    def __init__(self, message: str, *, param: str | None = "Idempotency-Key") -> None:
        super().__init__(message, param=param)


class ContentTooLarge(ServiceError):
    """413: the body is larger than the byte cap."""

    status = 413
    type = "invalid_request_error"
    code = "content_too_large"


class StorageFull(ServiceError):
    """507: files have no room left; deleting some makes it, and asking again does not."""

    status = 507
    code = "storage_full"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"x-should-retry": "false"})


class UnsupportedMedia(ServiceError):
    """415: a Content-Type that the route does not read."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class Cancelled(ServiceError):
    """499: the job was cancelled. A client that went away never sees it; one that polls or resumes does."""

    status = 499
    type = "invalid_request_error"
    code = "cancelled"


class Deadline(ServiceError):
    """504: the job was not done before its deadline, and is cancelled."""

    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class ScreenUnavailable(Unavailable):
    """503: a safety screen gave no verdict; nothing passes unscreened."""

    code = "safety_unavailable"


def from_code(code: str, message: str, job_id: str = "") -> ServiceError:
    """The error that an ended job's `code` stands for; a code that is no class of the API is a JobFailed of that code.

    Args:
        job_id: told to the caller on every 500, so that it can be looked for in the logs.
    """
    error = _CLASSES.get(code, JobFailed)(message)
    if isinstance(error, JobFailed) and code:
        error.code = code
    if job_id and error.status >= 500:
        error.extra = {**error.extra, "job_id": job_id}
    return error


def status_of(code: str) -> int:
    """The HTTP status that an error code stands for; 500 for a code that is no class of the API."""
    return _CLASSES.get(code, JobFailed).status


def error_classes() -> list[type[ServiceError]]:
    """One class for each error code."""
    return [ServiceError, *_CLASSES.values()]


def codes_of(status: int) -> list[str]:
    """The error codes that a status stands for."""
    return sorted(kind.code for kind in error_classes() if kind.status == status)


def error_body(error: ServiceError) -> dict[str, object]:
    """As JSON tells it (CONVENTIONS §4)."""
    return {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code} | error.extra
    }


def _subclasses(root: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in root.__subclasses__():
        yield child
        yield from _subclasses(child)


_CLASSES = {kind.code: kind for kind in _subclasses(ServiceError)}
