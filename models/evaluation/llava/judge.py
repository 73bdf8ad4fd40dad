"""Judging answers with a language model, by LLaVA's protocol (SPEC §10).

The judge sees no picture: it is told five captions and the boxes of what is in it, the question, the reference answer
and the model's, and it gives each of the two 1 to 10 points, alone on its first line. Scores are read, never guessed:
an answer without two clear scores is recorded, asked about once more, and then reported.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import httpx

from models.evaluation.errors import EvaluationError
from models.evaluation.http_calls import CallFailed, Outcome, Retries, for_each, post
from models.evaluation.json_lines import Journal, Line, by_id, read_object
from models.evaluation.llava.questions import ANSWER_FIELDS, Question

Order = Literal["reference_first", "model_first"]
ORDERS: tuple[Order, ...] = get_args(Order)

REVIEW_FIELDS = {"question_id": int, "category": str, "order": str, "content": str}
CAPTION_FIELDS = {"image": str, "captions": list, "instances": list}
MAX_ATTEMPTS = 2  # judgements asked for before an unparsable one is left as it is
SYSTEM_PROMPT = "You are a helpful and precise assistant for checking the quality of the answer."
REMINDER = (
    "请只输出一行：两个1到10之间的分数，用空格隔开。Give one line only: the two scores, 1 to 10, with a space between."
)


@dataclass(frozen=True)
class Rule:
    """How one category is judged: what the answerers are called, and what is asked of the judge."""

    role: str
    prompt: str


@dataclass(frozen=True)
class Case:
    """One pair of answers in one order, to be judged."""

    question: Question
    context: str
    rule: Rule
    reference: str
    answer: str
    model_id: str
    order: Order

    @property
    def key(self) -> tuple[int, str]:
        return self.question.id, self.order

    def prompt(self) -> str:
        """What the judge reads, in the layout of LLaVA's reviews."""
        first, second = self.reference, self.answer
        if self.order == "model_first":
            first, second = second, first
        role = self.rule.role
        return (
            f"[Context]\n{self.context}\n\n[Question]\n{self.question.text}\n\n"
            f"[{role} 1]\n{first}\n\n[End of {role} 1]\n\n[{role} 2]\n{second}\n\n[End of {role} 2]\n\n"
            f"[System]\n{self.rule.prompt}\n\n"
        )


@dataclass(frozen=True)
class Judge:
    """The model that judges, behind an OpenAI-compatible endpoint."""

    client: httpx.AsyncClient
    model: str
    max_tokens: int | None  # of a judgement; None leaves it to the endpoint
    retries: Retries

    async def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The judge's text. Raises CallFailed."""
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), "temperature": 0}
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        answer = await post(self.client, "chat/completions", body, self.retries)
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise CallFailed(f"{self.client.base_url} sent no choices: no chat-completions endpoint?", 404) from None
        return text or ""  # null where the endpoint's own filter has struck


class Reviews:
    """The reviews' file: scores found, and answers of the judge without them.

    Raises:
        EvaluationError: a broken line, or reviews of another model's answers or by another judge.
    """

    def __init__(self, path: Path, model_id: str, judge: str) -> None:
        self.journal = Journal(path, REVIEW_FIELDS)
        for line in self.journal.lines:
            if (line.get("model_id"), line.get("judge")) != (model_id, judge):
                raise EvaluationError(
                    f"{path}: holds reviews of {line.get('model_id')} by {line.get('judge')}; these would be of "
                    f"{model_id} by {judge}. Give another --output"
                )

    def attempts(self, case: Case) -> list[Line]:
        return [line for line in self.journal.lines if (line["question_id"], line["order"]) == case.key]

    def is_settled(self, case: Case) -> bool:
        """Scored, or asked about as often as is allowed."""
        attempts = self.attempts(case)
        return len(attempts) >= MAX_ATTEMPTS or any(is_scored(line) for line in attempts)

    def unscored(self, cases: Iterable[Case]) -> list[Case]:
        return [case for case in cases if not any(is_scored(line) for line in self.attempts(case))]


def read_cases(
    questions: Sequence[Question],
    reference: Path,
    answers: Path,
    captions: Path,
    rules: Path,
    orders: Sequence[Order],
) -> list[Case]:
    """All that is to be judged.

    Raises:
        EvaluationError: a broken file; a question without reference, answer, captions or rule; answers of two models.
    """
    references, answered = by_id(reference, ANSWER_FIELDS, "question_id"), by_id(answers, ANSWER_FIELDS, "question_id")
    contexts = {line["image"]: context(line, captions) for line in by_id(captions, CAPTION_FIELDS, "image").values()}
    by_category = read_rules(rules)
    models = {str(line.get("model_id", answers.stem)) for line in answered.values()}
    if len(models) > 1:
        raise EvaluationError(f"{answers}: answers of {len(models)} models, {', '.join(sorted(models))}; one is judged")
    cases = []
    for question in questions:
        for where, known, key in (
            (reference, references, question.id),
            (answers, answered, question.id),
            (captions, contexts, question.image),
            (rules, by_category, question.category),
        ):
            if key not in known:
                raise EvaluationError(f"{where}: has nothing for {key!r}, which question {question.id} needs")
        cases += [
            Case(
                question=question,
                context=contexts[question.image],
                rule=by_category[question.category],
                reference=references[question.id]["text"],
                answer=answered[question.id]["text"],
                model_id=next(iter(models)),
                order=order,
            )
            for order in orders
        ]
    return cases


def context(line: Line, where: Path) -> str:
    """A picture in words: its captions, then category and box of each thing (x1, y1, x2, y2, each 0 to 1)."""
    try:
        boxes = [f"{instance['category']}: {instance['bbox']}" for instance in line["instances"]]
        return "\n".join(line["captions"]) + "\n\n" + "\n".join(boxes)
    except (KeyError, TypeError) as error:
        raise EvaluationError(
            f"{where}: captions or instances of {line['image']} are not as expected: {error}"
        ) from None


def read_rules(path: Path) -> dict[str, Rule]:
    rules = {}
    for category, rule in read_object(path).items():
        if not isinstance(rule, dict) or not all(isinstance(rule.get(name), str) for name in ("role", "prompt")):
            raise EvaluationError(f"{path}: the rule of {category!r} needs a role and a prompt, got {rule!r}")
        rules[category] = Rule(rule["role"], rule["prompt"])
    return rules


async def review(cases: Sequence[Case], judge: Judge, reviews: Reviews, concurrency: int) -> list[str]:
    """Judges what is not settled yet; each judgement is in the file as soon as it is there.

    Returns:
        What went wrong with single cases, which a later run tries again.

    Raises:
        CallFailed: what would go wrong with all of them.
    """
    outcome = Outcome()

    async def settle(case: Case) -> None:
        try:
            while not reviews.is_settled(case):
                earlier = reviews.attempts(case)
                content = await judge.ask(_messages(case, earlier))
                # Appending waits for the disk, which is no wait beside the judge's.
                reviews.journal.append(_line(case, judge.model, content, len(earlier) + 1))
                outcome.succeed()
        except CallFailed as error:
            outcome.fail(f"question {case.question.id} ({case.order})", error)

    await for_each([case for case in cases if not reviews.is_settled(case)], settle, concurrency)
    return outcome.failures


def _messages(case: Case, earlier: Sequence[Line]) -> list[dict[str, str]]:
    """The case; after an unparsable answer also that answer and a reminder, as the same words at temperature 0 would
    bring the same again."""
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": case.prompt()}]
    for line in earlier:
        messages += [{"role": "assistant", "content": line["content"]}, {"role": "user", "content": REMINDER}]
    return messages


def _line(case: Case, judge: str, content: str, attempt: int) -> Line:
    scores = parse_scores(content)
    reference, model = (None, None) if scores is None else scores
    if case.order == "model_first":
        reference, model = model, reference
    return {
        "question_id": case.question.id,
        "category": case.question.category,
        "order": case.order,
        "attempt": attempt,
        "reference_score": reference,
        "model_score": model,
        "model_id": case.model_id,
        "judge": judge,
        "content": content,
    }


def is_scored(line: Line) -> bool:
    return line.get("reference_score") is not None and line.get("model_score") is not None


_NUMBER = re.compile(r"(?<![\d.])\d{1,2}(?:\.\d{1,2})?(?![\d.])")
_OUT_OF_TEN = re.compile(r"(?<=\d)\s*(?:/\s*10(?![\d.])|分|points?)")
_LABEL = re.compile(
    r"(?:assistant|助理|助手|answer|回答|答复)\s*([12])\s*(?:的?(?:得分|评分|分数)|'s score|score)?\s*[:是为=]*"
)
_HEADING = re.compile(r"^(?:scores?|评分|得分|分数|打分)\s*[:=]*")
_BETWEEN = re.compile(r"[\s,;、|()\[\]*_`#:。.和&]*(?:and)?[\s,;、|()\[\]*_`#:。.]*")


def parse_scores(content: str) -> tuple[float, float] | None:
    """The two scores of the first line that is not empty, or None where they are not clear.

    Taken: "8 7", "8, 7.5", "8/10 7/10", "8分 7分", "助理1：8 助理2：7" and the like, in full-width characters too. Two
    numbers from 1 to 10 and nothing else but their labels: a sentence with numbers in it is no score.
    """
    line = next((line for line in unicodedata.normalize("NFKC", content).lower().splitlines() if line.strip()), "")
    line = re.sub(r"[*_`#]", "", line).strip()
    line = _HEADING.sub("", line)
    labels = _LABEL.findall(line)
    if labels not in ([], ["1", "2"]):
        return None
    line = _OUT_OF_TEN.sub("", _LABEL.sub(" ", line))
    numbers = [float(number) for number in _NUMBER.findall(line)]
    rest = _NUMBER.split(line)
    if len(numbers) != 2 or not all(_BETWEEN.fullmatch(part) for part in rest):
        return None
    if not all(1 <= number <= 10 for number in numbers):
        return None
    return numbers[0], numbers[1]
