"""`Idempotency-Key`: a request that is sent again has one execution, and gets the same answer again.

A route claims the key once its request is checked and before it asks for a slot (`claim_key`); where an earlier job has
it, the route tells of that one and runs nothing. A job with a key goes on when its client leaves: it will come back.
"""

import asyncio
import hashlib
import re
from typing import NamedTuple

import msgspec
from pydantic import BaseModel
from starlette.requests import Request

from models.jobs import Model
from service.core.current_request import note_job
from service.core.errors import InvalidRequest
from service.http.access.authentication import require_model
from service.http.dependencies import ApiState, deadline_of
from service.http.middleware import ANSWER_HEADERS
from service.jobs.gated_queue import new_job_id
from service.jobs.idempotency import job_ids_of

_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")


class KeyClaim(NamedTuple):
    """Of a request with an Idempotency-Key."""

    key: str
    job_id: str
    is_earlier: bool  # the job is another request's: its answer is this one's too
    num_answers: int = 1

    @property
    def job_ids(self) -> list[str]:
        """A job for each answer."""
        return job_ids_of(self.job_id, self.num_answers)


async def claim_key(
    request: Request,
    state: ApiState,
    kind: Model,
    tenant: str,
    asked: BaseModel,
    upload: bytes | None = None,
    is_awaited: bool = True,
    num_answers: int = 1,
) -> KeyClaim | None:
    """The request's claim; None: it has no key.

    Args:
        asked: the checked body: another order of its fields, or defaults written out, are the same request.
        is_awaited: the client waits for the answer; else it is told the earlier job also while that runs.
        num_answers: that the request asks for, each of which is a job.

    Raises InvalidRequest, IdempotencyKeyReused, IdempotencyKeyInUse, InsufficientScope.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            f"Idempotency-Key: must be 1 to 255 printable ASCII characters, got {len(key)} characters",
            param="Idempotency-Key",
        )
    deadline_of(request)  # which an earlier job's answer does not need, but a wrong one is wrong as well
    require_model(request, state, kind)
    fingerprint = await asyncio.to_thread(_fingerprint, request.url.path, asked, upload)
    job_id = new_job_id(kind)
    earlier = await state.idempotency.claim(tenant, key, fingerprint, job_id, kind, is_awaited, num_answers)
    if earlier is None:
        return KeyClaim(key, job_id, False, num_answers)
    note_job(earlier.job_id)
    request.scope[ANSWER_HEADERS] = [(b"idempotent-replayed", b"true")]
    return KeyClaim(key, earlier.job_id, True, num_answers)


def _fingerprint(path: str, asked: BaseModel, upload: bytes | None) -> bytes:
    digest = hashlib.sha256(path.encode())
    for name in type(asked).model_fields:
        value = getattr(asked, name)
        # A picture's text is long, and needs no second copy in JSON
        data = value.encode() if isinstance(value, str) else msgspec.json.encode(value, enc_hook=_plain)
        digest.update(f"\0{name}:{type(value).__name__}:{len(data)}:".encode())
        digest.update(data)
    if upload is not None:
        digest.update(b"\0upload:")
        digest.update(upload)
    return digest.digest()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"a request holds a {type(value).__name__}, which has no fingerprint")
