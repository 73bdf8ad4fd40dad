"""The 90 questions of LLaVA-bench, as the release has them (SPEC §10): read, and answered by a Chat model.

Covered: the questions' and answers' files, pictures under COCO's names with and without their set, answering by a
checkpoint in batches or by a running service, going on where a run stopped. What answers are worth is judge.py's
business.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httpx

from models.evaluation.errors import EvaluationError
from models.evaluation.http_calls import CallFailed, Outcome, Retries, for_each, post
from models.evaluation.json_lines import Journal, by_id

QUESTION_FIELDS = {"question_id": int, "image": str, "text": str, "category": str}
ANSWER_FIELDS = {"question_id": int, "text": str}
COCO_PREFIXES = ("", "COCO_val2014_", "COCO_train2014_")  # the questions name pictures without their set
_NAMED_AT_MOST = 5

Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    id: int
    image: str
    text: str
    category: str


@dataclass(frozen=True)
class Reply:
    """An answer, and how it came about."""

    text: str
    metadata: Mapping[str, Any]


class Answers:
    """The answers' file of one model: what it holds already, and what is added.

    Args:
        settings: of the answering; a file that was begun with others is refused.
        fingerprint: of the checkpoint's weights, where they are known.

    Raises:
        EvaluationError: a broken line, or answers of another model or with other settings.
    """

    def __init__(self, path: Path, model_id: str, settings: Mapping[str, Any], fingerprint: str = "") -> None:
        self.journal = Journal(path, ANSWER_FIELDS)
        self.model_id = model_id
        self.settings = dict(settings)
        for line in self.journal.lines:
            metadata = line.get("metadata", {})
            found = (line.get("model_id"), metadata.get("settings"), metadata.get("fingerprint", fingerprint))
            if found != (model_id, self.settings, fingerprint):
                raise EvaluationError(
                    f"{path}: holds answers of {found[0]} {found[2]} with {found[1]}; these would be of {model_id} "
                    f"{fingerprint} with {self.settings}. Give another --output"
                )

    def missing(self, questions: Iterable[Question]) -> list[Question]:
        answered = {line["question_id"] for line in self.journal.lines}
        return [question for question in questions if question.id not in answered]

    def add(self, question: Question, reply: Reply) -> None:
        self.journal.append(
            {
                "question_id": question.id,
                "prompt": question.text,
                "text": reply.text,
                "category": question.category,
                "model_id": self.model_id,
                "metadata": {**reply.metadata, "settings": self.settings},
            }
        )

    def finish(self, questions: Sequence[Question]) -> None:
        """Brings the answers into the questions' order, by which other scripts pair them."""
        self.journal.sort([question.id for question in questions], "question_id")


def read_questions(path: Path) -> list[Question]:
    """Raises EvaluationError for a broken line or an id on two lines."""
    lines = by_id(path, QUESTION_FIELDS, "question_id").values()
    return [Question(line["question_id"], line["image"], line["text"], line["category"]) for line in lines]


def find_pictures(questions: Iterable[Question], folder: Path) -> dict[str, Path]:
    """Image name -> file. Raises EvaluationError that counts and names what is missing."""
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no folder of pictures")
    names = list(dict.fromkeys(question.image for question in questions))
    found, missing = {}, []
    for name in names:
        candidates = [folder / f"{prefix}{name}" for prefix in COCO_PREFIXES]
        file = next((candidate for candidate in candidates if candidate.is_file()), None)
        if file is None:
            missing.append(name)
        else:
            found[name] = file
    if missing:
        more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
        raise EvaluationError(
            f"{folder}: {len(missing)} of {len(names)} pictures are missing: {', '.join(missing[:_NAMED_AT_MOST])}"
            f"{more}; they are COCO's val2014, with or without COCO_val2014_ before the name"
        )
    return found


class Chat(Protocol):
    """A model on this machine that answers questions together: models.evaluation.llava.local_chat.LocalChat."""

    fingerprint: str

    def reply(self, texts: Sequence[str], pictures: Sequence[Path]) -> list[Reply]: ...


def answer_locally(
    questions: Iterable[Question], pictures: Mapping[str, Path], chat: Chat, answers: Answers, batch_size: int
) -> None:
    """Answers in batches; each batch is in the file before the next begins."""
    for batch in batches(questions, batch_size):
        replies = chat.reply([one.text for one in batch], [pictures[one.image] for one in batch])
        for question, reply in zip(batch, replies, strict=True):
            answers.add(question, reply)


async def answer_by_service(
    questions: Iterable[Question],
    pictures: Mapping[str, Path],
    client: httpx.AsyncClient,
    answers: Answers,
    concurrency: int,
    retries: Retries,
) -> list[str]:
    """Answers through POST /chat, each question in a conversation of its own; returns what went wrong with single ones.

    Raises:
        CallFailed: what would go wrong with all of them.
    """
    outcome = Outcome()

    async def ask(question: Question) -> None:
        image = base64.b64encode(pictures[question.image].read_bytes()).decode()
        body = {"image": image, "question": question.text, **answers.settings}
        try:
            answer = await post(client, "/chat", body, retries)
            if not isinstance(answer.get("answer"), str):
                raise CallFailed(f"{client.base_url} sent no answer: not this service?", 404)
        except CallFailed as error:
            outcome.fail(f"question {question.id}", error)
            return
        kept = ("id", "model", "finish_reason", "usage", "seed", "untrained", "moderation")
        metadata = {name: answer[name] for name in kept if answer.get(name) is not None}
        answers.add(question, Reply(answer["answer"], metadata))
        outcome.succeed()

    await for_each(questions, ask, concurrency)
    return outcome.failures


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
