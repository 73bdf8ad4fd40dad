"""From a talk as clients keep it to one question with its earlier turns and its picture (docs/guides/openai.md)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.jobs import Turn
from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.http.schemas.chat import question_text
from service.http.schemas.openai.messages import Message
from service.http.schemas.requests import plain_text
from service.image_input.intake import ImageIntake
from service.image_input.recent_pixels import InputPixels

_TALK_QUESTIONS = 2  # longest questions that earlier turns may be as long as: all of it is judged, and costs time


@dataclass
class Talk:
    """What is asked, and what was said before.

    Attributes:
        picture: the latest one, as it was sent; None: the talk has none.
        picture_param: the request's field that holds it.
        pictures_ignored: other pictures before it.
        gone_turns: oldest turns that are left out.
    """

    question: str
    turns: list[Turn]
    picture: str | None = None
    picture_param: str = ""
    pictures_ignored: int = 0
    gone_turns: int = 0

    def ignore_pictures(self, count: int, is_strict: bool) -> None:
        """Other pictures stand before this talk's. Raises InvalidRequest where that is not allowed."""
        self.pictures_ignored += count
        if is_strict and count:
            raise InvalidRequest(
                f"{self.picture_param}: the talk has {self.pictures_ignored + 1} pictures, one is allowed "
                "(VISCPM_STRICT_PICTURES)",
                param=self.picture_param,
            )


def read_talk(messages: Iterable[Message], settings: Settings) -> Talk:
    """The talk that ends with a user's question.

    What system messages say stands before the first question, a line for each. Messages of one side that follow one
    another are one, its lines joined. A talk may begin with an answer. Pictures count wherever they stand, the latest
    alone.

    Raises InvalidRequest naming the message at fault.
    """
    system: list[str] = []
    rounds: list[tuple[list[str], list[str]]] = []
    pictures: list[tuple[str, str]] = []
    last_param = "messages"
    for message in messages:
        _require_plain(message)
        pictures += message.pictures
        if message.role == "system":
            system += [message.text] if message.text else []
        elif message.role == "user":
            if not rounds or rounds[-1][1]:
                rounds.append(([], []))
            rounds[-1][0].append(message.text)
            last_param = message.param
        elif message.text:  # an empty one, as of a call of tools, says nothing
            if not rounds:
                rounds.append(([], []))
            rounds[-1][1].append(message.text)
            last_param = message.param
    if not rounds or rounds[-1][1]:
        ends = "has none" if not rounds else "ends with an answer, which this model does not go on writing"
        raise InvalidRequest(f"{last_param}: the talk must end with a user's question, and {ends}", param=last_param)
    said = [("\n".join(filter(None, asked)), "\n".join(answers)) for asked, answers in rounds]
    question, earlier = said[-1][0], said[:-1]
    _require_question(question, last_param, settings)
    kept = _newest(earlier, settings)
    before = "".join(f"{text}\n" for text in system)
    if kept:
        kept = [(before + kept[0][0], kept[0][1]), *kept[1:]]
    else:
        question = before + question
    _require_question(question, last_param, settings)
    talk = Talk(question, [Turn.of_plain(*one) for one in kept], gone_turns=len(earlier) - len(kept))
    _take_picture(talk, pictures, settings.strict_pictures)
    return talk


async def read_picture(images: ImageIntake, talk: Talk, side_px: int) -> InputPixels | None:
    """The talk's picture, which is not held any longer. Raises as ImageIntake.pixels, naming the message."""
    source, talk.picture = talk.picture, None
    if source is None:
        return None
    try:
        return await images.pixels(source, side_px)
    except InvalidRequest as error:
        error.param = talk.picture_param
        raise


def _require_plain(message: Message) -> None:
    try:
        plain_text(message.text, len(message.text))
    except ValueError as error:
        raise InvalidRequest(f"{message.param}: {error}", param=message.param) from None


def _require_question(question: str, param: str, settings: Settings) -> None:
    try:
        question_text(question, settings.max_question_chars)
    except ValueError as error:
        raise InvalidRequest(f"{param}: the question {error}", param=param) from None


def _newest(earlier: Sequence[tuple[str, str]], settings: Settings) -> list[tuple[str, str]]:
    """As many of the latest turns as a conversation may have, and hardly more text than the model could read."""
    room_chars = _TALK_QUESTIONS * settings.max_question_chars
    kept: list[tuple[str, str]] = []
    for question, answer in reversed(earlier):
        room_chars -= len(question) + len(answer)
        if room_chars < 0 or len(kept) + 1 >= settings.conversation_max_turns:
            break
        kept.append((question, answer))
    return kept[::-1]


def _take_picture(talk: Talk, pictures: Sequence[tuple[str, str]], is_strict: bool) -> None:
    if not pictures:
        return
    talk.picture, talk.picture_param = pictures[-1]
    talk.ignore_pictures(len({source for source, _ in pictures} - {talk.picture}), is_strict)
