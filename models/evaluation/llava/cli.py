"""`viscpm evaluate llava`: answer, judge, table."""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation.arguments import api_key, positive
from models.evaluation.http_calls import Retries, open_client, served_model
from models.evaluation.json_lines import read_lines, write_whole
from models.evaluation.llava.judge import ORDERS, REVIEW_FIELDS, Judge, Reviews, read_cases, review
from models.evaluation.llava.questions import (
    Answers,
    Chat,
    Question,
    answer_by_service,
    answer_locally,
    find_pictures,
    read_questions,
)
from models.evaluation.llava.review_table import as_text, tabulate
from models.jobs import ChatGeneration

SETTINGS = ("num_beams", "max_new_tokens", "repetition_penalty", "length_penalty", "temperature")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(metavar="STEP", required=True)
    _add_answer(steps.add_parser("answer", help="answer the questions with a checkpoint or a running service"))
    _add_judge(steps.add_parser("judge", help="have the answers judged by a language model"))
    _add_table(steps.add_parser("table", help="the paper's table from the reviews"))


def run(options: argparse.Namespace) -> int:
    """The exit code: 0, or 1 where judgements are missing."""
    code: int = options.step(options)
    return code


def _answer(options: argparse.Namespace) -> int:
    questions = read_questions(options.questions)
    pictures = find_pictures(questions, options.images)
    settings = {name: getattr(options, name) for name in SETTINGS}
    failures: list[str] = []
    if options.url:
        answers, failures = asyncio.run(_answer_by_service(options, questions, pictures, settings))
    else:
        chat = _load(options, ChatGeneration(**settings))
        answers = Answers(options.output, options.model_id or options.checkpoint.stem, settings, chat.fingerprint)
        missing = answers.missing(questions)
        _tell(len(questions), len(missing), "answered")
        answer_locally(missing, pictures, chat, answers, options.batch_size)
    answers.finish(questions)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"{options.output}: {len(answers.journal.lines)} of {len(questions)} answered by {answers.model_id}")
    return 1 if failures else 0


async def _answer_by_service(
    options: argparse.Namespace, questions: Sequence[Question], pictures: Mapping[str, Path], settings: dict[str, Any]
) -> tuple[Answers, list[str]]:
    async with open_client(options.url, api_key(options.api_key_env)) as client:
        answers = Answers(options.output, options.model_id or await served_model(client, "chat"), settings)
        missing = answers.missing(questions)
        _tell(len(questions), len(missing), "answered")
        failures = await answer_by_service(missing, pictures, client, answers, options.concurrency, Retries())
    return answers, failures


def _judge(options: argparse.Namespace) -> int:
    orders = ORDERS if options.swap else ORDERS[:1]
    cases = read_cases(
        read_questions(options.questions), options.reference, options.answers, options.captions, options.rules, orders
    )
    reviews = Reviews(options.output, cases[0].model_id, options.model)
    _tell(len(cases), sum(not reviews.is_settled(case) for case in cases), "judged")

    async def ask() -> list[str]:
        async with open_client(options.endpoint, api_key(options.api_key_env)) as client:
            judge = Judge(client, options.model, options.max_tokens, Retries())
            return await review(cases, judge, reviews, options.concurrency)

    failures = asyncio.run(ask())
    for failure in failures:
        print(failure, file=sys.stderr)
    unscored = [case for case in reviews.unscored(cases) if reviews.is_settled(case)]
    for case in unscored:
        print(f"question {case.question.id} ({case.order}): no readable scores in two answers", file=sys.stderr)
    print(f"{options.output}: {len(cases) - len(reviews.unscored(cases))} of {len(cases)} judgements have scores")
    return 1 if failures or unscored else 0


def _table(options: argparse.Namespace) -> int:
    rows = [
        tabulate(read_lines(path, REVIEW_FIELDS), str(path), options.resamples, options.seed)
        for path in options.reviews
    ]
    found = json.dumps([row.to_json() for row in rows], ensure_ascii=False, indent=1)
    if options.output:
        write_whole(options.output, (found + "\n").encode("utf-8"))
    print(found if options.json else as_text(rows))
    return 0


def _load(options: argparse.Namespace, generation: ChatGeneration) -> Chat:
    import torch

    from models.checkpoints.loading import load_chat
    from models.evaluation.llava.local_chat import LocalChat

    loaded = load_chat(options.checkpoint, options.vocabulary, options.device, getattr(torch, options.dtype))
    return LocalChat(loaded, generation)


def _tell(total: int, missing: int, done: str) -> None:
    if missing < total:
        print(f"{total - missing} of {total} are {done} already; going on with the others", file=sys.stderr)


def _add_answer(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(step=_answer)
    _file(parser, "--questions", "questions: question_id, image, text, category")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="COCO's val2014 pictures")
    _file(parser, "--output", "answers; a file that was begun is gone on with")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="PATH", help="a Chat checkpoint, run here")
    source.add_argument("--url", metavar="URL", help="a running service")
    parser.add_argument(
        "--model-id", metavar="NAME", help="in the answers (default: the checkpoint's or the served model's)"
    )
    parser.add_argument("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside the checkpoint)")
    parser.add_argument("--device", default="cpu", help="of a checkpoint run here (default: cpu)")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--batch-size", type=positive, default=8, metavar="N", help="questions together, run here")
    parser.add_argument("--concurrency", type=positive, default=4, metavar="N", help="requests at once, by a service")
    parser.add_argument("--api-key-env", default="", metavar="NAME", help="variable that holds the service's key")
    defaults = ChatGeneration()
    for name in SETTINGS:
        value = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"(default: {value})")


def _add_judge(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(step=_judge)
    _file(parser, "--questions", "the questions' file")
    _file(parser, "--reference", "reference answers: question_id, text")
    _file(parser, "--answers", "the model's answers")
    _file(parser, "--captions", "captions and boxes: image, captions, instances")
    _file(parser, "--rules", "rules by category: role, prompt")
    parser.add_argument(
        "--endpoint",
        required=True,
        metavar="URL",
        help="OpenAI-compatible, up to and with /v1; chat/completions is added",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="the judge, as the endpoint calls it")
    parser.add_argument("--api-key-env", default="", metavar="NAME", help="variable that holds the endpoint's key")
    _file(parser, "--output", "reviews; a file that was begun is gone on with")
    parser.add_argument(
        "--swap", action="store_true", help="judge in both orders, against a judge's liking for a place"
    )
    parser.add_argument("--concurrency", type=positive, default=4, metavar="N", help="requests at once (default: 4)")
    parser.add_argument(
        "--max-tokens", type=positive, metavar="N", help="of a judgement (default: left to the endpoint)"
    )


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(step=_table)
    parser.add_argument(
        "--reviews",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="one file a model, one line of the table each",
    )
    parser.add_argument(
        "--resamples", type=positive, default=10_000, metavar="N", help="of the bootstrap (default: 10000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON there too")


def _file(parser: argparse.ArgumentParser, flag: str, help: str) -> None:
    parser.add_argument(flag, type=Path, required=True, metavar="FILE", help=help)
