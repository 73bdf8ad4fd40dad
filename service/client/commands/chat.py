"""`viscpm chat`: a question about a picture, or a talk over several turns."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.client.answers import follow_answer, remark_answer
from service.client.arguments import ANSWER_FIELDS, Parser, add_answer_flags, add_service_flags, given
from service.client.command import run_command, service_of
from service.client.connection import Service
from service.client.events import begin, cancelled_with_us
from service.client.exit_codes import CommandError, ExitCode, UsageError
from service.client.output import note, say_json
from service.client.picture_files import names_picture, picture_field
from service.client.transcripts import save
from service.core.settings import Settings

_HELP = """\
/image PATH   the picture to talk about; a second one begins a new talk
/new          a new talk
/save FILE    this talk: .json can be imported again (viscpm conversations import), any other name is Markdown
/quit         or Ctrl-D
Ctrl-C stops an answer."""


def main(arguments: Sequence[str]) -> int:
    return run_command(parser(), arguments, _run, is_intermixed=True)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="viscpm chat",
        description="Ask a running service about a picture. Without a question: a talk, each line a question; "
        "/help tells what else a line may be. One word is a picture where it names a file or ends as one.",
    )
    parser.add_argument("first", nargs="?", metavar="IMAGE", help="a file or a link")
    parser.add_argument("second", nargs="?", metavar="QUESTION")
    parser.add_argument("--image", metavar="FILE", help="the picture, where the only word is a question")
    parser.add_argument("--conversation", metavar="ID", help="go on with this one")
    add_answer_flags(parser)
    add_service_flags(parser)
    return parser


def _run(options: argparse.Namespace, settings: Settings) -> int:
    image, question = _words(options)
    fields = given(options, *ANSWER_FIELDS)
    with service_of(options, settings) as service:
        talk = Talk(service, fields, image, options.conversation, options.json)
        return talk.ask(question) if question else _hold(talk)


def _words(options: argparse.Namespace) -> tuple[str | None, str]:
    """The picture's name and the question."""
    words = [word for word in (options.first, options.second) if word is not None]
    if options.image is not None:
        if len(words) > 1:
            raise UsageError(f"two pictures: {words[0]} and --image {options.image}")
        return options.image, words[0] if words else ""
    if len(words) == 1 and not names_picture(words[0]):
        return None, words[0]
    return (words[0] if words else None), (words[1] if len(words) == 2 else "")


class Talk:
    """A conversation as it is held: what the next question brings along, and where it is kept.

    Args:
        fields: of every request, such as `num_beams`.
        image: a file or a link; read at once.
        as_json: answers are printed as they are, one a line.
    """

    def __init__(
        self, service: Service, fields: dict[str, Any], image: str | None, conversation_id: str | None, as_json: bool
    ) -> None:
        self._service = service
        self._fields = fields
        self._as_json = as_json
        self.conversation_id = conversation_id
        self._image = None if image is None else picture_field(image)
        self._has_image = image is not None
        self._saved: Path | None = None

    def ask(self, question: str) -> ExitCode:
        """Print the answer as it comes. Raises CommandError; an interrupt cancels the job."""
        body = {**self._fields, "question": question}
        body |= {} if self._image is None else {"image": self._image}
        body |= {} if self.conversation_id is None else {"conversation_id": self.conversation_id}
        job_id = begin(self._service, "/chat", body)
        with cancelled_with_us(self._service, job_id):
            answer = follow_answer(self._service, job_id, is_quiet=self._as_json)
        if self._as_json:
            say_json(answer)
        self._image = None  # the conversation has it from now on
        self.conversation_id = answer["conversation_id"] or self.conversation_id
        return remark_answer(answer)

    def take_image(self, name: str) -> str:
        """For the next question; what has become of the talk, in words."""
        picture = picture_field(name)
        begins_anew = self._has_image
        if begins_anew:
            self.renew()
        self._image, self._has_image = picture, True
        return f"a new talk, about {name}" if begins_anew else f"the talk is about {name}"

    def renew(self) -> None:
        self.conversation_id, self._image, self._has_image, self._saved = None, None, False, None

    def save(self, name: str) -> str:
        """Write the talk to a file; what was done, in words. Raises CommandError."""
        if self.conversation_id is None:
            raise UsageError("there is no talk to save yet")
        path = Path(name)
        path_of_talk = f"/conversations/{quote(self.conversation_id, safe='')}"
        save(self._service, path_of_talk, path, may_replace=path == self._saved)
        self._saved = path
        return f"saved in {path}"


def _hold(talk: Talk) -> int:
    """The first failure's exit code where no person types; a person has seen it."""
    is_typed = sys.stdin.isatty()
    if is_typed:
        note("Ask away; /help tells what else there is.")
    worst = ExitCode.OK
    for line in _lines(is_typed):
        code = ExitCode.OK
        try:
            if line in ("/quit", "/exit"):
                break
            code = _obey(talk, line) if line.startswith("/") else talk.ask(line)
        except CommandError as error:
            note(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            if not is_typed:
                raise
            note("\n(stopped)")
        worst = worst or code
    return ExitCode.OK if is_typed else worst


def _obey(talk: Talk, line: str) -> ExitCode:
    """A line that is no question. Raises CommandError."""
    command, _, argument = line.partition(" ")
    argument = argument.strip()
    if command in ("/image", "/save") and not argument:
        raise UsageError(f"{command} needs a file's name")
    if command == "/image":
        note(talk.take_image(argument))
    elif command == "/save":
        note(talk.save(argument))
    elif command == "/new":
        talk.renew()
        note("a new talk")
    elif command == "/help":
        note(_HELP)
    else:
        raise UsageError(f"{command} is no command: /image, /new, /save, /help and /quit are")
    return ExitCode.OK


def _lines(is_typed: bool) -> Iterator[str]:
    """Not empty, without blanks around."""
    if is_typed:
        try:
            import readline  # noqa: F401  # arrow keys and earlier lines
        except ImportError:
            pass
    while True:
        try:
            line = input("> " if is_typed and sys.stdout.isatty() else "").strip()
        except EOFError:
            if is_typed:
                note("")
            return
        if line:
            yield line
