"""A parser that takes up no offer of another protocol: a request with one is read as any other (RFC 9110 §7.8).

httptools takes every `Connection: Upgrade` for the end of HTTP, and leaves the request's body unread.
"""

from typing import Any

import httptools


class OfferlessParser:
    """httptools' parser of requests. A head with an offer is read a second time, without the offer.

    The receiver sees such a head twice: while `is_offer`, what it is told counts for nothing.
    """

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver
        self._parser = self._new_parser()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    @property
    def is_offer(self) -> bool:
        return bool(self._parser.should_upgrade()) and self._parser.get_method() != b"CONNECT"

    def should_upgrade(self) -> bool:
        return False

    def feed_data(self, data: bytes) -> None:
        """Raises httptools.HttpParserError; HttpParserUpgrade for CONNECT alone."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if not self.is_offer:
                    raise
                rest = data[offer.args[0] :]
                data = self._head_without_offer() + rest
                self._parser = self._new_parser()

    def _head_without_offer(self) -> bytes:
        """The head as it was parsed, so that no line of it can hold another."""
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._receiver.url, version)]
        lines += [b"%b: %b" % header for header in self._receiver.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self._receiver)
        # As uvicorn has it: a request behind one that asks to close is passed over, and is no error
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser
