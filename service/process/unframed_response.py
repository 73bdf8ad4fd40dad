"""Responses without a length to clients of HTTP/1.0, which know no chunks: the end of the connection ends them."""

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class UnframedResponse(RequestResponseCycle):
    """uvicorn's cycle, of which a response that tells no length goes out as it is."""

    _is_unframed = False

    @classmethod
    def adopt(cls, cycle: RequestResponseCycle) -> None:
        """Make a cycle one of these: uvicorn has no place to say which class it makes."""
        cycle.__class__ = cls

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            if b"content-length" not in names:
                self._is_unframed = True
                self.chunked_encoding = False
        elif self._is_unframed and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))  # each part is as long as it should be
        await super().send(message)
