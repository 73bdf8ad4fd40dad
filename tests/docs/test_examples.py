"""Every example of the documents runs against the real service, or says why it does not."""

import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from tests.docs.examples import (
    JAVASCRIPT,
    PYTHON,
    SHELL,
    Example,
    Place,
    as_data_url,
    examples,
    examples_in,
    pages,
    prepare,
    run,
)
from tests.e2e.tree import Tree

pytestmark = pytest.mark.xdist_group("examples")  # they share a service

ALL = [example for page in pages() for example in examples(page)]
RUN = [example for example in ALL if not example.why_not]
BUDGET_S = 60.0


def of(languages: tuple[str, ...]) -> list[object]:
    return [pytest.param(example, id=example.place) for example in RUN if example.language in languages]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`viscpm serve` as a reader starts it, with a conversation and a painting that examples can name."""
    folder = tmp_path_factory.mktemp("examples")
    prepare(folder)
    service = Tree(folder / "data", VISCPM_SAFETY="on", VISCPM_A1111="on")
    try:
        service.wait_ready()
        with service.client() as client:
            picture = as_data_url(folder / "house.png")
            talk = client.post("/chat", json={"image": picture, "question": "What is in the picture?"}).json()
            painting = client.post("/paint?async=true", json={"prompt": "红苹果", "seed": 7}).json()
        names = {
            r"conv-(…|[\w-]{8,})": talk["conversation_id"],
            r"paint-…": painting["id"],
            r"data:image/png;base64,…": picture,
            r"chat-…": talk["id"],
        }
        yield Place(service.url, folder / "data", folder, names)
    finally:
        service.stop()


def check(example: Example, place: Place) -> None:
    started_s = time.monotonic()
    done = run(example, place)
    assert done.returncode == 0, f"{example.place}:\n{example.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert time.monotonic() - started_s < BUDGET_S


@pytest.mark.ops
@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", of(SHELL))
def test_shell(example: Example, place: Place, tool: Callable[[str], str]) -> None:
    for name in ("curl", *(["exiftool"] if "exiftool" in example.text else [])):
        tool(name)
    check(example, place)


@pytest.mark.clients
@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", of(PYTHON))
def test_python(example: Example, place: Place) -> None:
    check(example, place)


@pytest.mark.clients
@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", of(JAVASCRIPT))
def test_javascript(example: Example, place: Place) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node: node is not installed")
    check(example, place)


def test_every_example_runs_or_says_why_not() -> None:
    silent = [example.place for example in RUN if not example.language]
    assert silent == [], "an indented block names no language: a fence with one, or <!-- not run: why -->"
    languages = {example.language for example in RUN}
    assert languages & set(SHELL) and languages & set(PYTHON) and languages & set(JAVASCRIPT)
    assert len(RUN) > 25


def test_reasons_are_told_and_of_examples_that_cannot_run_here() -> None:
    told = {example.place: example.why_not for example in ALL if example.why_not}
    needs = (
        "weights",
        "GPU",
        "Docker",
        "minutes",
        "synopsis",
        "a service of its own",
        "GPUs",
        "open to other hosts",
        "an authority",
    )
    vague = {where: why for where, why in told.items() if not any(word in why for word in needs)}
    assert vague == {}


def test_what_is_an_example() -> None:
    text = (
        "# T\n\n```bash\ntrue\n```\n\n<!-- not run: weights -->\n```python\nx\n```\n\n```json\n{}\n```\n\n"
        "<!-- not run: GPU -->\n\n    viscpm x\n\n    viscpm y\n\ntext\n\n    bare\n\n- item\n\n```\ndata\n```\n"
    )
    parsed = [(found.language, found.text, found.why_not) for found in examples_in(text, "page.md")]
    assert parsed == [
        ("bash", "true\n", ""),
        ("python", "x\n", "weights"),
        ("", "    viscpm x\n\n    viscpm y\n", "GPU"),
        ("", "    bare\n", ""),
    ]
