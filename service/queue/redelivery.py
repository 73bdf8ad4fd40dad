"""A second delivery of a job must add to what its watcher was given, and never repeat or contradict it."""

from models.jobs import Delta, Event, Generated, Progress


class NonDeterministicReplay(Exception):
    """A restarted job said something else than the first time."""


class DeliveredPrefix:
    """What one watcher was given of a job's events, over all deliveries."""

    def __init__(self) -> None:
        self._text = ""
        self._token_ids: list[int] = []
        self._progress_step = 0
        self._delivery = 0
        self._chars = 0  # of the current delivery
        self._tokens = 0

    def only_new(self, delivery: int, event: Event) -> Event | None:
        """The part of `event` that goes on from what was given. Raises NonDeterministicReplay."""
        if delivery != self._delivery:
            self._delivery, self._chars, self._tokens = delivery, 0, 0
        if isinstance(event, Delta):
            return self._new_text(event)
        if isinstance(event, Progress):
            if event.step <= self._progress_step:
                return None
            self._progress_step = event.step
        elif isinstance(event, Generated) and self._chars < len(self._text):
            raise NonDeterministicReplay(
                f"the restarted answer ended after {self._chars} characters, {len(self._text)} were sent"
            )
        return event

    def _new_text(self, delta: Delta) -> Delta | None:
        if delta.offset_chars != self._chars:
            raise NonDeterministicReplay(f"text goes on at character {delta.offset_chars}, {self._chars} were received")
        known_chars, known_tokens = self._chars, self._tokens
        self._chars += len(delta.text)
        self._tokens += len(delta.token_ids)
        old_text = self._text[known_chars : self._chars]
        old_ids = self._token_ids[known_tokens : self._tokens]
        if not delta.text.startswith(old_text) or delta.token_ids[: len(old_ids)] != old_ids:
            raise NonDeterministicReplay(
                f"the restarted answer differs from what was sent after character {known_chars}"
            )
        text, token_ids = delta.text[len(old_text) :], delta.token_ids[len(old_ids) :]
        if not text and not token_ids:
            return None
        offset_chars = len(self._text)
        self._text += text
        self._token_ids += token_ids
        if len(token_ids) == len(delta.token_ids) and len(text) == len(delta.text):
            return delta
        return Delta(token_ids=token_ids, text=text, offset_chars=offset_chars)
