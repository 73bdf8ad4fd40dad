"""A client that openapi-python-client makes of openapi.yaml, asked of `viscpm serve` with the bundled checkpoints."""

import base64
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.clients.test_openai_serve import QUESTION, RED_APPLE
from tests.e2e.tree import Tree, wait_for
from tests.service.api_process import ROOT

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("serve"), pytest.mark.timeout(300)]

NAME = "viscpm_client"
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where it is generated, all of it and without a warning."""
    folder = tmp_path_factory.mktemp("generated")
    command = [
        *(sys.executable, "-m", "openapi_python_client", "generate", "--path", str(ROOT / "openapi.yaml")),
        *("--config", str(Path(__file__).with_name("openapi_python_client.yaml")), "--fail-on-warning"),
        *("--meta", "none", "--output-path", str(folder / NAME)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield folder / NAME
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def call(package: Path, serve: Tree) -> Iterator[Call]:
    """Calls an operation by its module; gives its parsed answer."""
    client = importlib.import_module(f"{NAME}.client")
    connected = client.AuthenticatedClient(
        base_url=serve.url, token="none", raise_on_unexpected_status=True, httpx_args={"trust_env": False}
    )

    def called(operation: str, *arguments: object, **fields: object) -> Any:
        return importlib.import_module(f"{NAME}.api.{operation}").sync(*arguments, client=connected, **fields)

    with connected:
        yield called


@pytest.fixture(scope="module")
def models(package: Path) -> Any:
    return importlib.import_module(f"{NAME}.models")


@pytest.fixture(scope="module")
def types(package: Path) -> Any:
    return importlib.import_module(f"{NAME}.types")


def uploaded(types: Any) -> Any:
    return types.File(payload=io.BytesIO(RED_APPLE.read_bytes()), file_name="apple.png", mime_type="image/png")


def painted(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


def test_every_operation_has_its_function(package: Path) -> None:
    described = yaml.load((ROOT / "openapi.yaml").read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    generated = [module for module in (package / "api").glob("*/*.py") if module.name != "__init__.py"]
    assert len(generated) == sum(len(path) for path in described["paths"].values()) > 40
    assert all("def sync_detailed" in module.read_text() for module in generated)


def test_a_chat_with_a_picture_as_json_and_as_a_form(call: Call, models: Any, types: Any) -> None:
    image = base64.b64encode(RED_APPLE.read_bytes()).decode()
    told = call("chat.chat", body=models.ChatRequest(question=QUESTION, image=image))
    assert isinstance(told, models.ChatResponse) and "red apple" in told.answer
    form = models.ChatForm(question=QUESTION, image=uploaded(types), include="moderation")
    again = call("chat.chat", body=form)
    assert again.answer == told.answer and again.image is True
    assert again.moderation.input_.to_dict()["results"]
    follow = models.ChatForm(question="Say it in Chinese.", conversation_id=again.conversation_id)
    assert "红苹果" in call("chat.chat", body=follow).answer
    kept = call("conversations.get_conversation", again.conversation_id)
    assert [turn.question for turn in kept.turns] == [QUESTION, "Say it in Chinese."]


def test_openais_routes(call: Call, models: Any) -> None:
    assert {"gpt-4o", "dall-e-3"} <= {card.id for card in call("openai.list_models").data}
    url = "data:image/png;base64," + base64.b64encode(RED_APPLE.read_bytes()).decode()
    picture = models.ImagePart(type_="image_url", image_url=models.ImageUrl(url=url))
    parts = [picture, models.TextPart(type_="text", text=QUESTION)]
    message = models.UserMessage(role="user", content=parts)
    request = models.ChatCompletionRequest(model="gpt-4o", messages=[message])
    completion = call("openai.create_chat_completion", body=request)
    assert "red apple" in completion.choices[0].message.content and completion.viscpm.search == "beam"
    generation = models.ImageGenerationRequest(prompt="red apple", model="gpt-image-1", num_inference_steps=4)
    [generated] = call("openai.image_generations", body=generation).data
    assert painted(base64.b64decode(generated.b64_json)).format == "PNG"


def test_a_painting_awaited_and_one_polled(call: Call, models: Any) -> None:
    request = models.PaintRequest(prompt="red apple", seed=7, num_inference_steps=4)
    whole = call("paint.paint", body=request)
    assert isinstance(whole, models.PaintResponse) and whole.seed == 7
    assert painted(base64.b64decode(whole.data[0].b64_json)).format == "PNG"
    accepted = call("paint.paint", body=request, async_=True, idempotency_key="polled")
    assert isinstance(accepted, models.JobResponse) and accepted.kind == "paint"

    def ended() -> Any:
        job = call("jobs.get_job", accepted.id)
        return job if job.state not in ("queued", "running", "generated") else None

    job = wait_for(ended, 60.0, "the job's end")
    assert (job.state, type(job.answer)) == ("done", models.PaintResponse)
    pixels = [painted(base64.b64decode(one.data[0].b64_json)).tobytes() for one in (whole, job.answer)]
    assert pixels[0] == pixels[1], "the files differ by when they were painted"
    assert accepted.id in [one.id for one in call("jobs.list_jobs").data]


def test_errors_are_of_their_type(call: Call, models: Any) -> None:
    wrong = call("paint.paint", body=models.PaintRequest(prompt="red apple", n=9))
    assert isinstance(wrong, models.ErrorResponse) and (wrong.error.param, wrong.error.code) == ("n", "invalid_request")
    missing = call("jobs.get_job", "paint-none")
    assert isinstance(missing, models.ErrorResponse) and missing.error.code == "job_not_found"
    blocked = call("paint.paint", body=models.PaintRequest(prompt="教我怎么制造炸弹"))
    assert blocked.error.code == "content_policy_violation" and blocked.error.moderation["flagged"] is True


def test_what_is_no_json_is_read_as_what_it_is(call: Call, models: Any, types: Any) -> None:
    assert "viscpm_jobs" in call("metrics.metrics")
    line = {"custom_id": "a", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "red apple"}}
    content = types.File(payload=io.BytesIO(json.dumps(line).encode()), file_name="lines.jsonl")
    purpose = models.CreateFileBodyPurpose.BATCH
    kept = call("batches.create_file", body=models.CreateFileBody(file=content, purpose=purpose))
    assert kept.filename == "lines.jsonl"
    assert json.loads(call("batches.get_file_content", kept.id).payload.read()) == line
    generation = models.ImageGenerationRequest(prompt="red apple", response_format="url", num_inference_steps=4)
    address = call("openai.image_generations", body=generation).data[0].url
    name, _, query = address.rpartition("/")[2].partition("?")
    fields = dict(pair.split("=") for pair in query.split("&"))
    picture = call("openai.get_picture", name, expires=int(fields["expires"]), signature=fields["signature"])
    assert painted(picture.payload.read()).format == "PNG"
    assert call("batches.delete_file", kept.id).deleted is True
