"""Where an answer has one of the texts at which it is to stop."""

from collections.abc import Sequence


class StopTexts:
    """Reads one answer, token by token.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.num_read = 0  # tokens
        self.is_reached = False
        self._stops = stops
        self._kept_chars = max(map(len, stops), default=1) - 1
        self._end = ""  # of what was read: as much as a stop may begin with

    def read(self, text: str) -> bool:
        """The next token's text; whether a stop is complete with it."""
        self.num_read += 1
        seen = self._end + text
        self.is_reached = any(stop in seen for stop in self._stops)
        self._end = seen[-self._kept_chars :] if self._kept_chars else ""
        return self.is_reached
