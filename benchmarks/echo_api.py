"""The API as `viscpm api` runs it, with one more route for the benchmark: POST /echo {"text"}.

`python -m benchmarks.echo_api PORT` with the variables of the API role. The route goes the whole way of a chat without
a picture: admission, gate, bus, worker, ending, the conversation's turn.
"""

import secrets
import sys
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.jobs import ChatJob
from service.core.logs import configure_logging
from service.core.settings import read_settings
from service.http.addresses import Addresses
from service.http.admission import admitted
from service.http.app import create_app
from service.http.dependencies import state_of
from service.jobs.answers import answer_of
from service.jobs.conversations import ConversationMeta, new_conversation_id, unix_time_s
from service.jobs.intents import ChatIntent
from service.process.api_server import bind, run_api

router = APIRouter()


@router.post("/echo")
async def echo(request: Request) -> Response:
    state = state_of(request)
    text = msgspec.json.decode(await request.body())["text"]
    model = state.registry.require("chat")
    async with admitted(request, state, "chat", "default") as slot:
        created = unix_time_s()
        begun = ConversationMeta(created, model.name, model.fingerprint, "", 0)
        intent = ChatIntent("default", created, model.name, new_conversation_id(), text, 0, begun)
        job = ChatJob(job_id=slot.job_id, question=text, seed=secrets.randbits(31))
        async with await slot.submit(job, intent) as stream:
            answer: Any = answer_of(await stream.outcome(), slot.job_id)
        return Response(msgspec.json.encode({"output": answer.answer}), media_type="application/json")


def run(port: int) -> int:
    settings = read_settings()
    configure_logging("warning", "api")
    app = create_app(settings)
    app.include_router(router)
    app.router.routes.insert(0, app.router.routes.pop())  # matched first, as /chat is
    addresses = next(one for one in app.user_middleware if one.cls is Addresses)
    addresses.kwargs["routes"] += router.routes  # and known as /chat is
    return run_api(app, settings, bind("127.0.0.1", port))


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1])))
