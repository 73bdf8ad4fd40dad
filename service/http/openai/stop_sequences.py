"""Where an answer is cut: before the first of the texts at which the client wants it to stop."""

from collections.abc import Sequence


class StopSequences:
    """Cuts one answer while it comes. What may be the beginning of a stop is held back until it is known not to be.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.is_cut = False  # a stop was found: nothing comes after it

    def feed(self, text: str) -> str:
        """What of the answer so far is certain to be sent, beyond what was given before."""
        if self.is_cut:
            return ""
        self._held += text
        # What is complete first counts, so that the pieces in which an answer comes make no difference
        found = [(place + len(stop), place) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.is_cut = True
            return self._take(min(found)[1], drops_rest=True)
        return self._take(len(self._held) - self._longest_beginning())

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        return self._take(len(self._held))

    def _take(self, num_chars: int, drops_rest: bool = False) -> str:
        taken, self._held = self._held[:num_chars], "" if drops_rest else self._held[num_chars:]
        return taken

    def _longest_beginning(self) -> int:
        """Characters at the end of what is held with which a stop begins."""
        longest = max(map(len, self._stops), default=1) - 1
        for num_chars in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-num_chars:]
            if any(stop.startswith(end) for stop in self._stops):
                return num_chars
        return 0


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """A whole answer before the first stop, and whether there was one."""
    stopping = StopSequences(stops)
    return stopping.feed(text) + stopping.finish(), stopping.is_cut
