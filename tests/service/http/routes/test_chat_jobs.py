"""From what is asked to the job: what travels in it, and what is kept of it (by its routes: test_chat.py)."""

import msgspec
import pytest

from models.jobs import ChatGeneration, ChatJob, ModelDescription, Turn
from service.core.errors import ConversationBusy
from service.http.admission import Slot
from service.http.routes.chat_jobs import Asked, ChatContext, seed_or_drawn, submit_question
from service.http.schemas.requests import MAX_SEED
from service.image_input.recent_pixels import InputPixels
from service.jobs.intents import ChatIntent
from service.queue.conversation_record import Conversation, ConversationMeta, StoredTurn
from tests.service.web import Service

MODEL = ModelDescription(kind="chat", name="m", fingerprint="f", image_size_px=2, untrained=True)
PIXELS = InputPixels(b"rgb" * 4, 2, "ab")


class KeptSlot(Slot):
    """Keeps what it is given to submit."""

    def __init__(self) -> None:
        self.job_id = "chat-1"

    async def submit(self, job: ChatJob, intent: ChatIntent) -> None:  # type: ignore[override]
        self.job, self.intent = job, intent


async def test_a_first_question_begins_a_conversation_with_the_turns_that_it_brings(service: Service) -> None:
    slot, earlier = KeptSlot(), [Turn.of_plain("a", "b")]
    asked = Asked("q", ChatGeneration(), seed=5, brought=earlier, gone_turns=2)
    await submit_question(service.state, slot, ChatContext("t", "req-1", MODEL), asked, PIXELS)
    job, intent = slot.job, slot.intent
    assert (job.question, job.history, job.pixels, job.seed) == ("q", earlier, PIXELS.rgb, 5)
    assert job.image_key.endswith(":ab") and job.request_id == "req-1"
    assert intent.begun is not None and intent.begun.earlier == earlier and intent.begun.image_sha256 == "ab"
    assert intent.conversation_id.startswith("conv-") and (intent.brought_turns, intent.gone_turns) == (1, 2)
    assert intent.untrained and intent.has_image


async def test_what_is_not_kept_has_no_conversation(service: Service) -> None:
    slot = KeptSlot()
    asked = Asked("q", ChatGeneration(), seed=5, is_kept=False, stops=("\n", "User:"))
    await submit_question(service.state, slot, ChatContext("t", "req-1", MODEL), asked, None)
    assert slot.job.stops == ["\n", "User:"]
    assert slot.intent.conversation_id == "" and slot.intent.begun is None
    assert slot.job == msgspec.structs.replace(slot.job, pixels=b"", image_key="", history=[])


async def test_what_is_answered_anew_is_not_in_its_own_history(service: Service) -> None:
    slot, turns = KeptSlot(), [StoredTurn("one", "1", "1", 1), StoredTurn("two", "2", "2", 2)]
    meta = ConversationMeta(1, "m", "f", "ab", 2)
    await service.state.conversations.create("t", "conv-1", Conversation(meta, turns), PIXELS.rgb)
    generation = ChatGeneration(num_beams=1)
    asked = Asked("two", generation, seed=9, conversation_id="conv-1", after_turns=2, regenerates=True)
    await submit_question(service.state, slot, ChatContext("t", "req-1", MODEL), asked, None)
    assert (slot.job.question, slot.job.history, slot.job.pixels) == ("two", [Turn.of_plain("one", "1")], b"")
    assert slot.job.pixels_key and slot.job.has_image
    assert slot.intent.regenerates and slot.intent.begun is None and slot.intent.generation == generation
    with pytest.raises(ConversationBusy):
        stale = Asked("one", generation, 9, "conv-1", after_turns=1, regenerates=True)
        await submit_question(service.state, slot, ChatContext("t", "req-1", MODEL), stale, None)


def test_seeds_follow_one_another_and_stay_exact_in_json() -> None:
    assert [seed_or_drawn(7, index) for index in range(3)] == [7, 8, 9]
    assert seed_or_drawn(-1) == MAX_SEED and seed_or_drawn(MAX_SEED, 1) == 0
    assert len({seed_or_drawn(None) for _ in range(8)}) > 1
