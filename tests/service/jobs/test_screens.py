"""The API's screens: rules here, pictures judged by a real safety worker, and no verdict where one is missing."""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from safety.policy import DEFAULT_POLICY, PolicyError
from safety.verdict import Picture
from service.core.settings import Settings
from service.jobs.screens import NoFindings, Rules, WorkerScreens, WorkersOffline, _small
from service.jobs.worker_registry import WorkerRegistry
from service.queue.verdict_cache import VerdictCache
from tests.safety.text.guards.stand_in import StandIn
from tests.service.image_input.colours import BLUE, GREEN, GREY, RED
from tests.service.tree import ApiSide, WorkerProcess, api_side, eventually, log_lines, quick_settings


@pytest.fixture(scope="module")
def rules() -> Rules:
    return Rules(Settings())


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return quick_settings(redis_url, safety="on", safety_engine="tests.service.image_input.colours:create_engine")


class Side:
    """An API process' screens."""

    def __init__(self, api: ApiSide, screens: WorkerScreens, registry: WorkerRegistry) -> None:
        self.api, self.screens, self.registry = api, screens, registry

    async def metric(self, name: str) -> float:
        [value] = [
            line.split()[1] for line in self.api.metrics.render().decode().splitlines() if line.startswith(name + " ")
        ]
        return float(value)


@asynccontextmanager
async def screening(rules: Rules, settings: Settings) -> AsyncIterator[Side]:
    async with api_side(settings) as api:
        registry = WorkerRegistry(api.servers, settings)
        await registry.start()
        cache = VerdictCache(api.connection, settings)
        screens = WorkerScreens(rules, api.producer, cache, registry, settings, api.metrics)
        try:
            yield Side(api, screens, registry)
        finally:
            await screens.close()
            await registry.close()


def picture(colour: tuple[int, int, int], side_px: int = 8) -> Picture:
    return Picture(bytes(colour) * side_px**2, "rgb", side_px, side_px)


def png(colour: tuple[int, int, int], width_px: int = 8, height_px: int = 8) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (width_px, height_px), colour).save(file, "PNG")
    return Picture(file.getvalue(), "png")


@pytest.mark.slow
async def test_pictures_are_judged_once_and_then_known(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess], engine_log: Path
) -> None:
    worker = start_worker(settings, kind="safety")
    async with screening(rules, settings) as side:
        await side.api.ready(worker)
        await eventually(lambda: side.registry.is_ready("safety"))
        judge = side.screens.image
        red = await judge("input_image", picture(RED), "zh")
        assert (red.decision, red.found, red.model) == ("block", ("sexual",), "image-safety-classifier+open-nsfw")
        assert red.scores == {"sexual": 0.97, "violence/graphic": 0.03} and "规范" in red.message
        assert red.sha256 == hashlib.sha256(picture(RED).data).hexdigest() and red.policy == rules.policy.version
        assert (await judge("candidate", png(GREY, 1024, 300))).decision == "pass"
        assert len(log_lines(engine_log, "screen")) == 2
        # Known now, for every stage and in another process as well
        assert (await judge("preview", picture(RED))).is_blocked
        async with screening(rules, settings) as other:
            assert (await other.screens.image("candidate", png(GREY, 1024, 300))).decision == "pass"
            assert await other.metric("viscpm_verdict_cache_hits_total") == 1
        assert len(log_lines(engine_log, "screen")) == 2
        # Asked for many times at once: judged once
        same = await asyncio.gather(*(judge("preview", picture(GREY, 9)) for _ in range(8)))
        assert {one.decision for one in same} == {"pass"} and len(log_lines(engine_log, "screen")) == 3
        assert await side.metric("viscpm_verdict_cache_queries_total") == 11
        assert await side.metric("viscpm_verdict_cache_hits_total") == 8
        fields = await side.api.redis.hkeys("{viscpm}:verdict-cache")
        assert len(fields) == 3 and all(rules.policy.version.encode() in field for field in fields)
        counts = await side.api.producer.accounting()
        assert counts["accepted:safety"] == counts["done:safety"] == 3
        assert (
            await side.api.redis.zcard("{viscpm}:slots:safety")
            == 0
            == await side.api.redis.xlen("{viscpm}:jobs:safety")
        )


@pytest.mark.slow
async def test_findings_are_kept_under_the_screens_that_found_them(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While workers are exchanged one by one, what an old one finds is not kept as the new one's."""
    worker = start_worker(settings, kind="safety")
    async with screening(rules, settings) as side:
        await side.api.ready(worker)
        await eventually(lambda: side.registry.is_ready("safety"))
        described = side.registry.last_model("safety")
        assert described is not None and described.fingerprint == "colours"
        newer = msgspec.structs.replace(described, fingerprint="newer")
        monkeypatch.setattr(side.registry, "last_model", lambda kind: newer)
        assert (await side.screens.image("preview", picture(RED))).is_blocked
        [key] = await side.api.redis.hkeys("{viscpm}:verdict-cache")
        assert f"{rules.policy.version}-colours:".encode() in key
        await side.screens.image("preview", picture(RED))
        assert await side.metric("viscpm_verdict_cache_hits_total") == 0


@pytest.mark.own_process
@pytest.mark.parametrize("colour", [GREEN, BLUE])
async def test_a_slow_or_crashed_worker_is_no_verdict(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess], colour: tuple[int, int, int]
) -> None:
    hurried = settings.model_copy(update={"safety_deadline_s": 1.0})
    worker = start_worker(hurried, kind="safety")
    async with screening(rules, hurried) as side:
        await side.api.ready(worker)
        await eventually(lambda: side.registry.is_ready("safety"))
        with pytest.raises(NoFindings, match="deadline_exceeded"):
            await side.screens.image("input_image", picture(colour))
        counts = await side.api.producer.accounting()
        assert counts["accepted:safety"] == counts["cancelled:safety"] == 1
        assert not await side.api.redis.exists("{viscpm}:verdict-cache")
        # Rules need no worker
        assert (await side.screens.text("question", "What is in this picture?")).decision == "pass"


@pytest.mark.waiting
async def test_without_any_worker_what_a_request_brings_is_told_so_at_once(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess]
) -> None:
    checked = settings.model_copy(update={"safety_prompt_checker": "folder"})
    worker = start_worker(checked, kind="safety")
    async with screening(rules, checked) as side:
        await side.api.ready(worker)
        await eventually(lambda: side.registry.is_ready("safety"))
        assert (await side.screens.image("input_image", picture(RED))).is_blocked
        worker.kill()
        await eventually(lambda: side.registry.screens_are_gone)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(WorkersOffline, match="^no safety worker is alive$"):
            await side.screens.image("input_image", picture(GREY))
        with pytest.raises(WorkersOffline, match="^no safety worker is alive$"):
            await side.screens.text("prompt", "一只风筝")
        with pytest.raises(WorkersOffline, match="^no safety worker is alive$"):
            await side.screens.image("preview", png(GREY))
        assert (await side.screens.text("prompt", "a kite")).decision == "pass"  # rules need no worker
        assert (await side.screens.image("input_image", picture(RED))).is_blocked  # known
        assert loop.time() - began_s < 0.5  # of the 10 s that a verdict may take
        counts = await side.api.producer.accounting()
        assert counts["accepted:safety"] == counts["done:safety"] == 1


@pytest.mark.slow
async def test_what_a_model_has_made_waits_for_a_worker(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess]
) -> None:
    async with screening(rules, settings) as side:
        assert side.registry.screens_are_gone
        judging = asyncio.create_task(side.screens.image("candidate", png(GREY)))
        await asyncio.sleep(0.1)
        with pytest.raises(WorkersOffline):  # the same content, and nobody to wait for
            await side.screens.image("input_image", png(GREY))
        assert not judging.done()
        start_worker(settings, kind="safety")
        assert (await judging).decision == "pass"


async def test_text_is_judged_by_rules_here(rules: Rules, settings: Settings) -> None:
    async with screening(rules, settings) as side:
        judge = side.screens.text
        english = await judge("prompt", "how to build a pipe bomb at home")
        assert english.is_blocked and english.model == "rules" and english.language == "en" and english.sha256
        chinese = await judge("prompt", "教我怎么制造炸弹")
        assert chinese.is_blocked and chinese.language == "zh" and "规范" in chinese.message
        assert (await judge("question", "a long walk in the park. " * 200)).decision == "pass"
        assert (await judge("question", "a long walk in the park. " * 200 + "how to build a pipe bomb")).is_blocked


@pytest.mark.slow
async def test_a_prompt_checker_sees_chinese_texts_alone(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess], engine_log: Path
) -> None:
    checked = settings.model_copy(update={"safety_prompt_checker": "folder"})
    worker = start_worker(checked, kind="safety")
    async with screening(rules, checked) as side:
        await side.api.ready(worker)
        await eventually(lambda: side.registry.is_ready("safety"))
        assert (await side.screens.text("prompt", "a red kite")).decision == "pass"
        assert not log_lines(engine_log, "screen")
        unsafe = await side.screens.text("prompt", "一只 red 风筝")
        assert unsafe.is_blocked and unsafe.found == ("unsafe",) and unsafe.model == "rules+prompt-checker"
        for _ in range(2):
            assert (await side.screens.text("prompt", "一只风筝")).decision == "pass"
        assert len(log_lines(engine_log, "screen")) == 2


async def test_a_broken_picture_is_no_verdict(rules: Rules, settings: Settings) -> None:
    async with screening(rules, settings) as side:
        with pytest.raises(OSError):
            await side.screens.image("candidate", Picture(b"no picture", "png"))
        assert (await side.api.producer.accounting())["accepted:safety"] == 0


def test_what_is_sent_is_small() -> None:
    assert _small(picture(RED, 512))[1:] == (512, 512)
    data, width_px, height_px = _small(png(RED, 1024, 256))
    assert (width_px, height_px) == (512, 128) and data == bytes(RED) * 512 * 128
    assert _small(picture(GREY, 600))[1:] == (512, 512)


async def test_what_the_rules_block_takes_no_guards_time(rules: Rules, settings: Settings) -> None:
    guarded = settings.model_copy(update={"safety_guard": "folder"})
    async with screening(rules, guarded) as side:
        blocked = await side.screens.text("prompt", "how to build a pipe bomb at home")
        assert blocked.is_blocked and blocked.model == "rules" and blocked.versions == {"rules": _rules_version(rules)}
        with pytest.raises(WorkersOffline):
            await side.screens.text("prompt", "a kite")
        assert await side.metric("viscpm_verdict_cache_queries_total") == 1


@pytest.mark.slow
async def test_a_screen_that_is_configured_here_and_not_in_the_workers_lets_nothing_pass(
    rules: Rules, settings: Settings, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker(settings, kind="safety")
    changed = {"safety_guard": "folder", "safety_image_checker": "folder"}
    async with screening(rules, settings.model_copy(update=changed)) as side:
        await side.api.ready(worker)
        await eventually(lambda: side.registry.is_ready("safety"))
        with pytest.raises(NoFindings, match="^qwen3guard is configured here and did not judge"):
            await side.screens.text("prompt", "a kite")
        with pytest.raises(NoFindings, match="^compvis is configured here and did not judge"):
            await side.screens.image("input_image", picture(GREY))


async def test_a_guards_languages_decide_whether_it_is_asked(rules: Rules, settings: Settings) -> None:
    guarded = settings.model_copy(update={"safety_guard": "folder", "safety_guard_adapter": "llama-guard-3"})
    async with screening(rules, guarded) as side:
        assert (await side.screens.text("prompt", "一只风筝")).model == "rules"
        with pytest.raises(WorkersOffline):
            await side.screens.text("prompt", "a kite")


@pytest.mark.slow
async def test_servers_judge_without_any_safety_worker(rules: Rules, settings: Settings) -> None:
    async with StandIn() as server:
        guarded = settings.model_copy(update={"safety_guard_url": server.url, "safety_moderation_url": server.url})
        async with screening(rules, guarded) as side:
            assert side.registry.screens_are_gone
            verdict = await side.screens.text("question", "a zorkmid")
            assert verdict.is_blocked and verdict.model == "rules+qwen3guard+moderation"
            assert len(verdict.versions) == 3 and all(verdict.versions.values())
            answer = await side.screens.text("answer", "a kite")
            assert answer.decision == "pass" and server.asked[2][2]["messages"][-1]["role"] == "assistant"


def test_a_classifier_without_labels_in_the_policy_is_no_start(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    text = DEFAULT_POLICY.read_text("utf-8")
    path.write_text(
        text[: text.index("labels:")] + "labels: {image-classifier: {}}\n\n" + text[text.index("# block:") :]
    )
    assert Rules(Settings(safety_policy=str(path))).policy.version
    with pytest.raises(PolicyError, match="labels: image-classifier is missing"):
        Rules(Settings(safety_policy=str(path), safety_image_classifier="folder"))


def _rules_version(rules: Rules) -> str:
    return rules.text.judge(["a kite"])[0].findings[0].version
