"""A chat-completions endpoint for tests."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response


class Endpoint:
    """A chat-completions endpoint that answers from a list: text, or a whole response."""

    def __init__(self, *answers: str | Response) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("Authorization", ""))
        answer = self.answers.pop(0)
        if isinstance(answer, Response):
            return answer
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": answer}}]})
