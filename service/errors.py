"""The error tree, and the one handler that renders it.

Each class is one error code of the API; status codes live here alone. Raised deep, rendered once as
`{"error": {"message", "type", "param", "code"}}` (CONVENTIONS §4).
"""


class ServiceError(Exception):
    """Base: an answer of the API that is not a result.

    Args:
        message: what was wrong, what was got, what is allowed.
        param: the request field at fault.
        retry_after_s: sent as `Retry-After` where trying again helps.
        extra: further members of the error object, such as a verdict.
    """

    status = 500
    type = "server_error"
    code = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.extra = extra or {}


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
    """No live worker serves the model."""

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


class JobFailed(ServiceError):
    """500: the job ended as failed; `code` is the engine's, or `job_failed`."""

    code = "job_failed"


class JobLost(ServiceError):
    """500: the server no longer knows a job that was accepted (its data was lost)."""

    code = "job_lost"
