"""One chat job on its way to an answer: image embeddings, prefill, tokens, result."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from models.engines.chat.beam_search import BeamSearch
from models.engines.chat.decoding import Decoding, Search
from models.engines.chat.image_embeddings import ImageEmbeddingCache, from_bytes, to_bytes
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.sampling import Sampling
from models.engines.chat.vocabulary import AnswerVocabulary
from models.jobs import (
    ChatJob,
    ChatResult,
    Delta,
    EngineEvent,
    Generated,
    ImageEmbeddingsComputed,
    JobRejected,
    Observe,
)
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer, unescape
from models.networks.vision.preprocess import normalise


@dataclass(frozen=True)
class ChatRuntime:
    """What all jobs of an engine share. `key_prefix` and a job's own key together name a picture's embeddings."""

    model: ChatModel
    tokenizer: Tokenizer
    image_embeddings: ImageEmbeddingCache
    key_prefix: str
    observe: Observe

    @property
    def device(self) -> torch.device:
        return self.model.query_tokens.device

    def image_key(self, job: ChatJob) -> str:
        """Name of its picture's embeddings, or "" where the job names none."""
        return f"{self.key_prefix}:{job.image_key}" if job.image_key else ""

    def elapsed_s(self, started: float) -> float:
        """Seconds since `started`, the device's work included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter() - started


class ChatTask:
    """A job in progress, advanced by one bounded slice at a time: first its prefill, then one token at each.

    Raises:
        JobRejected: the job's text, picture or length cannot be used.
    """

    def __init__(self, job: ChatJob, runtime: ChatRuntime) -> None:
        self.job = job
        self.is_retry = False
        self._runtime = runtime
        self._prompt = build_prompt(job, runtime.tokenizer, runtime.model.config.num_query_tokens)
        # Others' pictures may crowd them out before the first slice, and then nobody has them
        self._held = runtime.image_embeddings.get(runtime.image_key(job))
        self._sent_ids = 0
        self._sent_chars = 0
        self._slices = self._run()

    def advance(self) -> list[EngineEvent]:
        """The next slice's events; the last slice's hold `Generated`. Raises JobRejected and NonFiniteLogits."""
        return next(self._slices)

    def close(self) -> None:
        """Frees the cache now: the suspended slices and this task hold each other."""
        self._slices.close()

    def restart(self) -> None:
        """Frees the cache and begins again; text that was sent is not sent again."""
        self.close()
        self._slices = self._run()
        self.is_retry = True

    def _run(self) -> Generator[list[EngineEvent], None, None]:
        runtime, job = self._runtime, self.job
        embeddings, is_cached, events = self._image_embeddings() if self._prompt.num_image_tokens else (None, False, [])

        batch = pack_prompts([self._prompt], runtime.tokenizer)
        search = self._search(AnswerVocabulary.of_batch(batch, runtime.tokenizer))
        started = perf_counter()
        max_new_tokens = job.generation.max_new_tokens
        decoding = Decoding(runtime.model, batch.to(runtime.device), [embeddings], search, max_new_tokens)
        prefill_s = runtime.elapsed_s(started)
        runtime.observe("prefill_s", prefill_s)
        yield events

        decode_s = 0.0
        while not search.is_finished:
            started = perf_counter()
            decoding.step()
            step_s = runtime.elapsed_s(started)
            runtime.observe("decode_step_s", step_s)
            decode_s += step_s
            events = self._deltas(search.answers[0], batch.decode_tables[0])
            if not search.is_finished:
                yield events

        result = self._result(search.answers[0], batch.decode_tables[0], is_cached, prefill_s, decode_s)
        runtime.observe("prompt_tokens", result.prompt_tokens)
        runtime.observe("generation_tokens", result.completion_tokens)
        yield [*events, Generated(result=result)]

    def _search(self, vocabulary: AnswerVocabulary) -> Search:
        generation, device = self.job.generation, self._runtime.device
        if generation.do_sample or generation.num_beams == 1:
            return Sampling(vocabulary, generation, self.job.seed, device)
        return BeamSearch(vocabulary, generation, device)

    def _image_embeddings(self) -> tuple[Tensor, bool, list[EngineEvent]]:
        """(Q, D) held here, brought by the job, or else computed: with whether they were cached, and events."""
        runtime, job = self._runtime, self.job
        key = runtime.image_key(job)
        if key:
            runtime.observe("vision_cache_query", 1)
        embeddings = runtime.image_embeddings.get(key) if self._held is None else self._held
        if embeddings is None and job.image_embeddings:
            config, dtype = runtime.model.config, runtime.model.query_tokens.dtype
            shape = (config.num_query_tokens, config.llm.dim_model)
            embeddings = from_bytes(job.image_embeddings, shape, dtype, runtime.device)
        if embeddings is not None:
            if key:
                runtime.observe("vision_cache_hit", 1)
                runtime.image_embeddings.put(key, embeddings)
            return embeddings, True, []
        if not job.pixels:
            raise JobRejected("invalid_request", f"embeddings of {len(job.image_embeddings)} bytes, and no picture")
        embeddings = self._run_tower()
        if not key:
            return embeddings, False, []
        runtime.image_embeddings.put(key, embeddings)
        return embeddings, False, [ImageEmbeddingsComputed(key=key, data=to_bytes(embeddings))]

    def _run_tower(self) -> Tensor:
        runtime, job = self._runtime, self.job
        started = perf_counter()
        side = job.image_size_px
        pixels = torch.frombuffer(bytearray(job.pixels), dtype=torch.uint8).view(1, side, side, 3).to(runtime.device)
        embeddings = runtime.model.image_embeddings(normalise(pixels).to(runtime.model.query_tokens.dtype))[0]  # (Q, D)
        if not embeddings.isfinite().all():  # never cached
            raise JobRejected("generation_failed", "the vision tower gave NaN or infinite embeddings for this picture")
        runtime.observe("vision_tower_s", runtime.elapsed_s(started))
        return embeddings

    def _deltas(self, ids: list[int], table: Mapping[int, str]) -> list[EngineEvent]:
        """The text of `ids` that was not sent yet, for a job that streams; a final eos has none."""
        new_ids = self._without_eos(ids)[self._sent_ids :]
        if not self.job.stream or not new_ids:
            return []
        text = unescape(self._runtime.tokenizer.decode(new_ids, table))
        delta = Delta(token_ids=new_ids, text=text, offset_chars=self._sent_chars)
        self._sent_ids += len(new_ids)
        self._sent_chars += len(text)
        return [delta]

    def _without_eos(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids[-1:] == [self._runtime.tokenizer.eos_id] else ids

    def _result(
        self, ids: list[int], table: Mapping[int, str], is_cached: bool, prefill_s: float, decode_s: float
    ) -> ChatResult:
        escaped = self._runtime.tokenizer.decode(self._without_eos(ids), table)
        return ChatResult(
            answer=unescape(escaped),
            answer_escaped=escaped,
            finish_reason="stop" if ids[-1] == self._runtime.tokenizer.eos_id else "length",
            prompt_tokens=self._prompt.num_tokens,
            image_tokens=self._prompt.num_image_tokens,
            completion_tokens=len(ids),
            token_ids=ids,
            dropped_turns=self._prompt.dropped_turns,
            vision_cached=is_cached,
            prefill_s=prefill_s,
            decode_s=decode_s,
        )
