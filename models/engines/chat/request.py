"""One chat job on its way to an answer: its picture and prompt are read in slices, then its rows join the batch."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from models.engines.chat.batch import RowSearch, RowState, Sequences, blocked_columns
from models.engines.chat.image_embeddings import ImageEmbeddingCache, from_bytes, to_bytes
from models.engines.chat.kv_pool import KVPool, SlotTable
from models.engines.chat.prefill import PromptReading, PromptRows, ReadPrompt, picture_slices, prompt_slices
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.search.beam_search import BeamRows
from models.engines.chat.search.sampling import SampledRow
from models.engines.chat.search.selection import Choices
from models.engines.chat.search.stop_texts import StopTexts
from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits
from models.engines.text_folding import Fold
from models.jobs import (
    ChatJob,
    ChatResult,
    Delta,
    EngineEvent,
    Failed,
    Generated,
    ImageEmbeddingsComputed,
    JobRejected,
    Observe,
)
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer, unescape

T = TypeVar("T")


@dataclass(frozen=True)
class ChatRuntime:
    """What all requests of an engine share. `key_prefix` and a job's own key together name a picture's embeddings.

    Args:
        fold: spells users' texts as the checkpoint's training did.
    """

    model: ChatModel
    tokenizer: Tokenizer
    pool: KVPool
    image_embeddings: ImageEmbeddingCache
    key_prefix: str
    observe: Observe
    fold: Fold = str
    read_prompts: PromptReading = prompt_slices

    @property
    def device(self) -> torch.device:
        return self.model.query_tokens.device

    def image_key(self, job: ChatJob) -> str:
        """Name of its picture's embeddings, or "" where the job names none."""
        return f"{self.key_prefix}:{job.image_key}" if job.image_key else ""


class ChatRequest:
    """A job in progress.

    Raises:
        JobRejected: the job's text, picture or length cannot be used.
    """

    def __init__(self, job: ChatJob, runtime: ChatRuntime, state: RowState) -> None:
        self.job = job
        self.is_alone = False
        self.table = SlotTable(runtime.pool.allocator)
        self.sequences: Sequences | None = None  # once the prompt is read
        self.prefill_s = self.decode_s = self.picture_s = 0.0
        self.events: list[EngineEvent] = []  # not told yet
        self._runtime = runtime
        self._state = state
        self._prompt = build_prompt(job, runtime.tokenizer, runtime.model.config.num_query_tokens, runtime.fold)
        # Others' pictures may crowd them out before the first slice, and then nobody has them
        self._held = runtime.image_embeddings.get(runtime.image_key(job))
        self._is_cached = False
        self._is_picture_told = False
        self._decode_table: Mapping[int, str] = {}
        self._stops = StopTexts(job.stops)
        self._sent_ids = 0
        self._sent_chars = 0

    @property
    def num_rows(self) -> int:
        generation = self.job.generation
        return 1 if generation.do_sample else generation.num_beams

    @property
    def num_prompt_tokens(self) -> int:
        return self._prompt.num_tokens

    @property
    def first_slots(self) -> int:
        return self._prompt.num_tokens + self.num_rows

    @property
    def next_slots(self) -> int:
        if self.sequences is None:
            return self.first_slots
        return self._prompt.num_tokens + self.sequences.num_answer_slots

    @property
    def fewest_slots(self) -> int:
        """What an answer of the full length takes at least, all beams sharing their past."""
        return self._prompt.num_tokens + self.job.generation.max_new_tokens + self.num_rows - 1

    @property
    def has_ended(self) -> bool:
        """Whether its last event is waiting to be told."""
        return any(isinstance(event, Generated | Failed) for event in self.events)

    @property
    def needs_tower(self) -> bool:
        """Whether its picture's embeddings would have to be computed now."""
        runtime = self._runtime
        if not self._prompt.num_image_tokens or self._held is not None or self.job.image_embeddings:
            return False
        return runtime.image_key(self.job) not in runtime.image_embeddings

    def read_picture(self) -> Generator[None, None, None]:
        """Brings its picture's embeddings, a layer of the tower at a time where they must be computed.

        Raises:
            JobRejected: the picture gives none.
        """
        if self._prompt.num_image_tokens:
            yield from self._bring_embeddings()

    def note_read(self, part: str, elapsed_s: float) -> None:
        """What a slice of its reading took: of a `picture`, of a `prompt`, or "", the end."""
        if part == "picture":
            self.picture_s += elapsed_s
            return
        self.prefill_s += elapsed_s
        if not part:
            if self.picture_s:
                self._runtime.observe("vision_tower_s", self.picture_s)
                self.picture_s = 0.0
            self._runtime.observe("prefill_s", self.prefill_s)

    def prompt_rows(self) -> PromptRows:
        """Once its picture is there."""
        batch = pack_prompts([self._prompt], self._runtime.tokenizer)
        self._vocabulary = AnswerVocabulary.of_batch(batch, self._runtime.tokenizer)
        self._decode_table = batch.decode_tables[0]
        slots = self.table.slots(self._prompt.num_tokens)
        return PromptRows(batch.to(self._runtime.device), self._vocabulary.segments[0], self._held, slots)

    def begin_answer(self, prompt: ReadPrompt) -> None:
        """Sets `sequences`, once the prompt's keys are in their slots."""
        vocabulary = self._vocabulary
        is_unknown_blocked, blocked = blocked_columns(vocabulary, self._runtime.device)
        self.sequences = Sequences(
            generation=self.job.generation,
            search=self._search(vocabulary),
            table=self.table,
            prompt_length=self._prompt.num_tokens,
            to_prompt=prompt.to_prompt,
            extension_rows=prompt.extension_rows,
            blocked_extensions=blocked,
            is_unknown_blocked=is_unknown_blocked,
            rows=self._state.take(self.num_rows),
        )

    def advance(self, choices: Sequence[Choices] | None) -> None:
        """Takes what the batch chose for its rows. Raises NonFiniteLogits where that is nothing."""
        assert self.sequences is not None
        search = self.sequences.search
        if choices is None:
            raise NonFiniteLogits(f"NaN or infinite logits at token {search.num_fed}")
        self.sequences.advance(choices)
        # A search whose answer may still change tells what it will begin with in any case
        ids = search.ids if search.is_finished else self._until_stop(search.ids)
        self.events += self._deltas(ids)
        if search.is_finished or self._stops.is_reached:
            result = self._result(ids)
            self._runtime.observe("prompt_tokens", result.prompt_tokens)
            self._runtime.observe("generation_tokens", result.completion_tokens)
            self.events.append(Generated(result=result))

    def take_events(self) -> list[EngineEvent]:
        events, self.events = self.events, []
        return events

    def preempt(self) -> None:
        """Forgets all that was computed but the picture's embeddings; text that was sent is not sent again."""
        if self.sequences is not None:
            self._state.give_back(self.sequences.rows)
        self.sequences = None

    def _search(self, vocabulary: AnswerVocabulary) -> RowSearch:
        generation = self.job.generation
        if self.num_rows == 1:
            return SampledRow(vocabulary, generation, self.job.seed)
        return BeamRows(vocabulary, generation)

    def _bring_embeddings(self) -> Generator[None, None, None]:
        """(Q, D) held here, brought by the job, or else computed."""
        runtime, job = self._runtime, self.job
        key = runtime.image_key(job)
        if key and not self._is_picture_told:
            runtime.observe("vision_cache_query", 1)
        embeddings = runtime.image_embeddings.get(key) if self._held is None else self._held
        if embeddings is None and job.image_embeddings:
            config, dtype = runtime.model.config, runtime.model.query_tokens.dtype
            shape = (config.num_query_tokens, config.llm.dim_model)
            embeddings = from_bytes(job.image_embeddings, shape, dtype, runtime.device)
        if embeddings is not None:
            if key and not self._is_picture_told:
                runtime.observe("vision_cache_hit", 1)
                runtime.image_embeddings.put(key, embeddings)
            self._is_cached = self._is_cached or not self._is_picture_told
            self._held, self._is_picture_told = embeddings, True
            return
        if not job.pixels:
            raise JobRejected("invalid_request", f"embeddings of {len(job.image_embeddings)} bytes, and no picture")
        embeddings = yield from picture_slices(runtime.model, job.pixels)
        if not embeddings.isfinite().all():  # never cached
            raise JobRejected("generation_failed", "the vision tower gave NaN or infinite embeddings for this picture")
        if key:
            runtime.image_embeddings.put(key, embeddings)
            if not self._is_picture_told:
                self.events.append(ImageEmbeddingsComputed(key=key, data=to_bytes(embeddings)))
        self._held, self._is_picture_told = embeddings, True
        yield

    def _deltas(self, ids: list[int]) -> list[EngineEvent]:
        """The text of `ids` that was not sent yet, for a job that streams; a final eos has none."""
        new_ids = self._without_eos(ids)[self._sent_ids :]
        if not self.job.stream or not new_ids:
            return []
        text = self._text(new_ids)
        delta = Delta(token_ids=new_ids, text=text, offset_chars=self._sent_chars)
        self._sent_ids += len(new_ids)
        self._sent_chars += len(text)
        return [delta]

    def _until_stop(self, ids: list[int]) -> list[int]:
        """The ids up to the one with which a stop is complete; all, where none is."""
        for column in ids[self._stops.num_read :] if self.job.stops else ():
            if self._stops.read(self._text([column])):
                return ids[: self._stops.num_read]
        return ids

    def _text(self, ids: list[int]) -> str:
        return unescape(self._runtime.tokenizer.decode(ids, self._decode_table))

    def _without_eos(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids[-1:] == [self._runtime.tokenizer.eos_id] else ids

    def _result(self, ids: list[int]) -> ChatResult:
        is_stopped = self._stops.is_reached or ids[-1] == self._runtime.tokenizer.eos_id
        escaped = self._runtime.tokenizer.decode(self._without_eos(ids), self._decode_table)
        return ChatResult(
            answer=unescape(escaped),
            answer_escaped=escaped,
            finish_reason="stop" if is_stopped else "length",
            prompt_tokens=self._prompt.num_tokens,
            image_tokens=self._prompt.num_image_tokens,
            completion_tokens=len(ids),
            token_ids=ids,
            dropped_turns=self._prompt.dropped_turns,
            vision_cached=self._is_cached,
            prefill_s=self.prefill_s,
            decode_s=self.decode_s,
        )


def read_prompts(requests: Sequence[ChatRequest], runtime: ChatRuntime) -> Generator[str, None, None]:
    """Reads pictures and prompts, and sets `sequences`; yields after each slice what it was, `picture` or `prompt`: one
    `prompt` comes before the first layer, one after each.

    Raises:
        JobRejected: a picture gives no embeddings.
    """
    for request in requests:
        yield from _named("picture", request.read_picture())
    rows = [request.prompt_rows() for request in requests]
    yield "prompt"
    prompts = yield from _named("prompt", runtime.read_prompts(runtime.model, rows, runtime.pool))
    for request, prompt in zip(requests, prompts, strict=True):
        request.begin_answer(prompt)


def _named(name: str, slices: Generator[None, None, T]) -> Generator[str, None, T]:
    """The same slices, each giving the name."""
    try:
        while True:
            next(slices)
            yield name
    except StopIteration as stop:
        value: T = stop.value
        return value
