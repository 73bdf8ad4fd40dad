"""LLaVA-bench's questions: read, answered by a checkpoint and by a service, gone on with after a kill."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from PIL import Image

from models.checkpoints.loading import load_chat
from models.checkpoints.tiny import write_tiny_checkpoints
from models.engines.chat.engine import ChatEngine
from models.evaluation.cli import main
from models.evaluation.errors import EvaluationError
from models.evaluation.llava.local_chat import read_pixels
from models.evaluation.llava.questions import Answers, Question, Reply, answer_locally, find_pictures, read_questions
from models.jobs import ChatGeneration, ChatJob, Generated
from service.core.settings import Settings
from service.http.schemas.chat import ChatRequest
from tests.models.evaluation.lines import read_lines

REFERENCE_DATA = Path(__file__).parents[5] / "shared" / "reference-data"
QUESTIONS = [
    {"question_id": 0, "image": "a.png", "text": "图片中有什么？", "category": "conv"},
    {"question_id": 1, "image": "a.png", "text": "以全面和详细的方式分析图像。", "category": "detail"},
    {"question_id": 7, "image": "b.png", "text": "Why is it red?", "category": "complex"},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_tiny_checkpoints(folder, seed=0)
    return folder / "chat"


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A questions' file, and its two pictures in `pictures`, one of them with its set's name."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "pictures" / "a.png")
    Image.effect_noise((64, 64), 80).save(tmp_path / "pictures" / "COCO_val2014_b.png")
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in QUESTIONS), encoding="utf-8")
    return file


def answer(questions: Path, output: Path, *more: str) -> int:
    fixed = ["--questions", str(questions), "--images", str(questions.parent / "pictures"), "--output", str(output)]
    return main(["llava", "answer", *fixed, *more])


@pytest.mark.slow
def test_a_checkpoint_answers_as_the_engine_does(questions: Path, checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    flags = ["--checkpoint", str(checkpoint), "--max-new-tokens", "6", "--batch-size", "2"]
    assert answer(questions, output, *flags) == 0

    found = read_lines(output)
    assert [line["question_id"] for line in found] == [0, 1, 7]
    assert [line["prompt"] for line in found] == [line["text"] for line in QUESTIONS]
    assert {line["model_id"] for line in found} == {"chat"}
    assert found[0]["metadata"]["untrained"] is True
    assert found[0]["metadata"]["settings"]["num_beams"] == 3
    for line, asked in zip(found, QUESTIONS, strict=True):
        name = "a.png" if asked["image"] == "a.png" else "COCO_val2014_b.png"
        expected = engine_answer(checkpoint, str(asked["text"]), tmp_path / "pictures" / name)
        assert line["text"] == expected != ""


def engine_answer(checkpoint: Path, question: str, picture: Path) -> str:
    """From the service's own path, one job alone."""
    loaded = load_chat(checkpoint, dtype=torch.float32)
    engine = ChatEngine(loaded, "chat", 1, lambda name, value: None, num_blocks=100)
    pixels = read_pixels(picture, loaded.config.image_size_px)
    engine.admit(
        ChatJob(
            job_id="1",
            question=question,
            pixels=pixels.tobytes(),
            image_size_px=len(pixels),
            generation=ChatGeneration(max_new_tokens=6),
        )
    )
    while True:
        for _, event in engine.step():
            if isinstance(event, Generated):
                return event.result.answer


class Parrot:
    """A model that says what it was asked, and dies after so many questions."""

    fingerprint = "f1"

    def __init__(self, lives: int) -> None:
        self.lives = lives

    def reply(self, texts: list[str], pictures: list[Path]) -> list[Reply]:
        if len(texts) > self.lives:
            raise EvaluationError("dead")
        self.lives -= len(texts)
        return [
            Reply(f"{picture.name}: {text}", {"fingerprint": "f1"})
            for text, picture in zip(texts, pictures, strict=True)
        ]


def test_a_stopped_run_goes_on_and_a_torn_line_is_cut_off(questions: Path, tmp_path: Path) -> None:
    asked, output = read_questions(questions), tmp_path / "deep" / "answers.jsonl"
    pictures = find_pictures(asked, tmp_path / "pictures")
    answers = Answers(output, "parrot", {"num_beams": 1}, "f1")
    with pytest.raises(EvaluationError, match="dead"):
        answer_locally(asked, pictures, Parrot(2), answers, batch_size=1)
    with output.open("ab") as file:
        file.write('{"question_id": 7, "text": "半'.encode()[:-1])  # a kill within a character

    again = Answers(output, "parrot", {"num_beams": 1}, "f1")
    missing = again.missing(asked)
    assert [question.id for question in missing] == [7]
    answer_locally(missing, pictures, Parrot(1), again, batch_size=4)
    again.finish(asked)
    assert [(line["question_id"], line["text"][:5]) for line in read_lines(output)] == [
        (0, "a.png"),
        (1, "a.png"),
        (7, "COCO_"),
    ]
    assert Answers(output, "parrot", {"num_beams": 1}, "f1").missing(asked) == []


@pytest.mark.parametrize(
    ("model", "settings", "fingerprint"),
    [("cat", {"num_beams": 1}, "f1"), ("parrot", {"num_beams": 3}, "f1"), ("parrot", {"num_beams": 1}, "f2")],
)
def test_answers_of_two_models_never_share_a_file(
    questions: Path, tmp_path: Path, model: str, settings: dict[str, int], fingerprint: str
) -> None:
    asked, output = read_questions(questions), tmp_path / "answers.jsonl"
    answers = Answers(output, "parrot", {"num_beams": 1}, "f1")
    answer_locally(asked[:1], find_pictures(asked, tmp_path / "pictures"), Parrot(1), answers, 1)
    with pytest.raises(EvaluationError, match="another --output"):
        Answers(output, model, settings, fingerprint)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question_id": 2, "image": "a.png", "text": "?"}', "line 2: category must be text, got nothing"),
        ('{"question_id": "2", "image": "a.png", "text": "?", "category": "conv"}', "must be an integer, got '2'"),
        ('{"question_id": true, "image": "a.png", "text": "?", "category": "conv"}', "must be an integer, got True"),
        ('{"question_id": 2', "line 2: is not JSON"),
        ("[1]", "line 2: a JSON object is expected, got list"),
        (json.dumps(QUESTIONS[0]), "question_id 0 stands on two lines"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f"{json.dumps(QUESTIONS[0])}\n{line}\n", encoding="utf-8")
    with pytest.raises(EvaluationError) as error:
        read_questions(path)
    assert said in str(error.value)


def test_missing_pictures_are_counted_and_named(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures" / "a.png").unlink()
    assert answer(questions, tmp_path / "answers.jsonl", "--url", "http://127.0.0.1:9") == 1
    assert "1 of 2 pictures are missing: a.png" in capsys.readouterr().err
    with pytest.raises(EvaluationError, match="no folder"):
        find_pictures([Question(0, "a.png", "?", "conv")], tmp_path / "nowhere")


@pytest.mark.slow
def test_a_service_answers_after_it_was_busy(
    questions: Path, tmp_path: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    app = FastAPI()
    requests: list[tuple[ChatRequest, str]] = []

    @app.get("/v2/models/chat")
    async def model() -> dict[str, Any]:
        return {"name": "chat", "versions": ["viscpm-x"]}

    @app.post("/chat")
    async def chat(request: Request) -> Response:
        asked = ChatRequest.model_validate_json(await request.body(), context=Settings())
        requests.append((asked, request.headers.get("Authorization", "")))
        if len(requests) == 1:
            return JSONResponse({"error": {"message": "full", "code": "queue_full"}}, 429, {"Retry-After": "0"})
        with Image.open(io.BytesIO(base64.b64decode(asked.image or ""))) as picture:
            said = f"{picture.size} {asked.question}"
        return JSONResponse({"id": "j", "model": "viscpm-x", "answer": said, "finish_reason": "stop", "seed": 5})

    output, url = tmp_path / "answers.jsonl", serve(app)
    assert answer(questions, output, "--url", url, "--num-beams", "2", "--concurrency", "2") == 0
    found = read_lines(output)
    assert [line["text"] for line in found] == [
        "(40, 30) 图片中有什么？",
        "(40, 30) 以全面和详细的方式分析图像。",
        "(64, 64) Why is it red?",
    ]
    assert {line["model_id"] for line in found} == {"viscpm-x"}
    assert found[0]["metadata"]["finish_reason"] == "stop"
    assert {asked.num_beams for asked, _ in requests} == {2}
    assert len(requests) == 4

    assert answer(questions, output, "--url", url, "--num-beams", "2") == 0
    assert len(requests) == 4, "nothing is asked twice"
    assert "3 of 3 are answered already" in capsys.readouterr().err


def test_a_refused_question_is_named(
    questions: Path, tmp_path: Path, serve: Callable[[FastAPI], str], capsys: pytest.CaptureFixture[str]
) -> None:
    app = FastAPI()

    @app.post("/chat")
    async def chat() -> Response:
        return JSONResponse({"error": {"message": "no such field", "code": "invalid_request"}}, 400)

    assert answer(questions, tmp_path / "a.jsonl", "--url", serve(app), "--model-id", "x", "--concurrency", "1") == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == ["question 0", "question 1", "question 7"]
    assert said[0].endswith("/chat refused: 400 no such field")


def test_the_real_questions_are_read() -> None:
    if not REFERENCE_DATA.is_dir():
        pytest.skip("reference data: the release's questions are not here (../shared/reference-data)")
    found = read_questions(REFERENCE_DATA / "qa90_questions_zh.jsonl")
    assert len(found) == 90
    assert {question.category for question in found} == {"conv", "detail", "complex"}
    assert len({question.image for question in found}) == 30
