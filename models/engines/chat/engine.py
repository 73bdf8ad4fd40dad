"""The chat worker's engine: jobs side by side in one batch, each failing alone.

Every step reads a bounded part of one newcomer's prompt and feeds one token of all rows that decode, so a cancel takes
effect within one decode step. Observed, by name:

    vision_cache_query, vision_cache_hit   1 each; a hit is a picture for which the tower did not run
    vision_tower_s                         tower and projector, one picture
    prefill_s                              one prompt
    decode_step_s                          one token of every row of the batch
    prompt_tokens, generation_tokens       of one job, once it has its answer
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from models.checkpoints.loading import LoadedChat, load_chat
from models.engines.chat.batch import DecodingBatch
from models.engines.chat.checks import check_generation, check_picture
from models.engines.chat.image_embeddings import ImageEmbeddingCache
from models.engines.chat.kv_pool import BLOCK_SLOTS, KVPool, blocks_of, pool_blocks, slot_bytes
from models.engines.chat.prompt_reader import PromptReader
from models.engines.chat.request import ChatRequest, ChatRuntime
from models.engines.chat.scheduler import PoolExhausted, Scheduler, first_ones
from models.engines.chat.search.vocabulary import NonFiniteLogits
from models.engines.combinations import refuse_unsupported
from models.engines.free_memory import trim_heap
from models.engines.offload.budget import within_budget
from models.engines.offload.placement import offload, pack_resident
from models.engines.offload.transient_layers import TransientLayers
from models.engines.oom import is_out_of_memory, release_memory
from models.engines.text_folding import text_folding
from models.engines.threads import choose_threads, in_threads
from models.engines.turns.residency import InUse
from models.engines.turns.sharing import OwnDevice, SharedDevice, open_device
from models.jobs import (
    ChatGeneration,
    ChatJob,
    Engine,
    EngineConfig,
    EngineEvent,
    EngineLoad,
    Failed,
    Generated,
    Job,
    JobRejected,
    ModelDescription,
    Observe,
    OnOffAuto,
)
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.quantized_linear import num_weights

logger = logging.getLogger(__name__)

IMAGE_EMBEDDINGS_BYTES = 64 * 2**20  # 128 pictures at the published sizes in half precision
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
WARM_UP_BLOCKS = 64
_THREADS_JOBS = 6  # answers at once that choose the number of threads
TYPICAL_SLOTS = 256  # of a request, until some have ended


class ChatEngine:
    """Implements models.jobs.Engine around one loaded, folded model.

    Args:
        num_blocks: of the pool of keys and values.
    """

    def __init__(
        self,
        loaded: LoadedChat,
        name: str,
        max_jobs: int,
        observe: Observe,
        num_blocks: int,
        fold_traditional: OnOffAuto = "auto",
    ) -> None:
        config, weights = loaded.config, loaded.model.query_tokens
        dtype = str(weights.dtype).removeprefix("torch.")
        self._loaded = loaded
        self._max_jobs = max_jobs
        self._observe = observe
        self._fold = text_folding(loaded.training_text, loaded.tokenizer, fold_traditional)
        self._image_embeddings = ImageEmbeddingCache(IMAGE_EMBEDDINGS_BYTES)
        self._requests: dict[str, ChatRequest] = {}
        self._typical_blocks = float(blocks_of(TYPICAL_SLOTS))
        self._layers_pass = isinstance(loaded.model.llm.layers, TransientLayers)
        self._rows_per_call: int | None = None  # all, until they ran out of memory
        self._reading_threads: int | None = None  # as many as decoding takes
        self._step_s = 0.0  # of the last decode step
        self._description = ModelDescription(
            kind="chat",
            name=name,
            fingerprint=loaded.fingerprint,
            untrained=loaded.untrained,
            device=str(weights.device),
            dtype=dtype,
            quantization=loaded.quantization,
            parameters=num_weights(loaded.model),
            image_size_px=config.image_size_px,
            image_tokens=config.num_query_tokens,
            image_embeddings_bytes=config.num_query_tokens * config.llm.dim_model * weights.dtype.itemsize,
        )
        self.make_pool(num_blocks)

    def make_pool(self, num_blocks: int) -> None:
        """Keys and values for all requests, anew; there are no requests meanwhile."""
        assert not self._requests, "the pool is in use"
        llm, tokenizer = self._loaded.model.llm, self._loaded.tokenizer
        weight = llm.embedding.weight
        self._runtime = ChatRuntime(
            model=self._loaded.model,
            tokenizer=tokenizer,
            pool=KVPool(llm.config, num_blocks, weight.dtype, weight.device),
            image_embeddings=self._image_embeddings,
            key_prefix=f"{self._loaded.fingerprint}:{self._description.dtype}",
            observe=self._observe,
            fold=self._fold,
        )
        self._batch = DecodingBatch(llm, self._runtime.pool, tokenizer.bos_id, tokenizer.unk_id)
        self._scheduler: Scheduler[ChatRequest] = Scheduler(self._runtime.pool.allocator)
        self._reader = PromptReader(self._scheduler, self._runtime, self._layers_pass)

    @property
    def description(self) -> ModelDescription:
        return self._description

    @property
    def capacity(self) -> int:
        """By what is free of the pool, at what a request took so far. None while a job waits to run alone."""
        if any(request.is_alone for request in self._requests.values()):
            return 0
        room = int(self._scheduler.num_free_after_waiting() / self._typical_blocks)
        if not self._requests:
            room = max(room, 1)
        return max(min(room, self._max_jobs - len(self._requests)), 0)

    @property
    def load(self) -> EngineLoad:
        allocator, scheduler = self._runtime.pool.allocator, self._scheduler
        return EngineLoad(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) - scheduler.num_preempted,
            preempted=scheduler.num_preempted,
            kv_blocks=allocator.num_blocks,
            kv_blocks_used=allocator.num_blocks - allocator.num_free,
        )

    def image_key(self, job: Job) -> str | None:
        """Name of its picture's embeddings, unless it has none or the engine holds it."""
        if not isinstance(job, ChatJob) or not job.has_image:
            return None
        key = self._runtime.image_key(job)
        return key if key and key not in self._image_embeddings else None

    def admit(self, job: Job) -> None:
        """Checks the job and builds its prompt; the first step reads it. A job admitted again begins again."""
        if not isinstance(job, ChatJob):
            raise JobRejected("invalid_request", f"a {type(job).__name__}, this worker takes ChatJob")
        if job.job_id not in self._requests and len(self._requests) >= self._max_jobs:
            raise JobRejected("job_failed", f"{self._max_jobs} jobs are in progress, which is all that are allowed")
        check_generation(job.generation)
        check_picture(job, self._description.image_size_px)
        request = ChatRequest(job, self._runtime, self._batch.state)
        if request.fewest_slots > self._runtime.pool.num_slots:
            raise JobRejected(
                "context_length_exceeded",
                f"{request.num_prompt_tokens} tokens of talk and an answer of up to {job.generation.max_new_tokens} in "
                f"{request.num_rows} beams take memory for {request.fewest_slots} tokens; this worker has it for "
                f"{self._runtime.pool.num_slots}: ask for fewer new tokens, or a shorter talk",
            )
        self._end(job.job_id)
        self._requests[job.job_id] = request
        self._scheduler.add(request)

    def step(self) -> list[tuple[str, EngineEvent]]:
        """A part of a newcomer's prompt, and a token of every row; jobs that ran out of memory wait to be alone."""
        events: list[tuple[str, EngineEvent]] = []
        with torch.inference_mode():
            self._prefill()
            self._decode()
        for job_id, request in list(self._requests.items()):
            for event in request.take_events():
                events.append((job_id, event))
                if isinstance(event, Generated | Failed):
                    self._end(job_id)
        return events

    def cancel(self, job_id: str) -> None:
        self._end(job_id)

    def warm_up(self) -> None:
        """Runs a picture and a question through tower, prefill and both searches, so that no job pays for first calls.

        Raises:
            NonFiniteLogits: the weights cannot give an answer.
        """
        side = self._description.image_size_px
        observe, self._observe = self._observe, lambda name, value: None
        num_blocks = self._runtime.pool.allocator.num_blocks
        self.make_pool(WARM_UP_BLOCKS)
        for do_sample in (False, True):
            generation = ChatGeneration(max_new_tokens=4, do_sample=do_sample)
            question, pixels = "What is in the picture? " * 4, bytes(3 * side * side)
            self.admit(
                ChatJob(
                    job_id=f"warm-up{do_sample}",
                    question=question,
                    pixels=pixels,
                    image_size_px=side,
                    generation=generation,
                )
            )
            while self._requests:  # one by one, for there may be room for no more
                for _, event in self.step():
                    if isinstance(event, Failed):
                        raise NonFiniteLogits(event.message)
        if self._runtime.device.type == "cpu":
            self.make_pool(WARM_UP_BLOCKS)  # of which answers wrote a part that other ones may not write again
            trim_heap()
            self._choose_threads()
        self._observe = observe
        self.make_pool(num_blocks)
        trim_heap()

    def _choose_threads(self) -> None:
        """By a step of several answers at once, which is taken again and again and never heard of.

        Prompts are read in all threads where layers pass, whatever a step takes, which waits for copies most of the
        time: prompts compute, and those of all requests at once for longer than their layers are copied.
        """
        if self._layers_pass:
            self._reading_threads = torch.get_num_threads()
        for number in range(min(_THREADS_JOBS, self._max_jobs)):
            self.admit(ChatJob(job_id=f"threads{number}", question="What is this? " * 4))
        with torch.inference_mode():
            while self._reader.begin():
                self._prefill()
                self._read_with([])
            sequences = [request.sequences for request in self._requests.values() if request.sequences is not None]
            choose_threads(lambda: self._batch.step(sequences))
        for job_id in list(self._requests):
            self._end(job_id)

    # Prompts ---------------------------------------------------------------------------------------------------------

    def _prefill(self) -> None:
        """Reads prompts until that has taken the time of a decode step; one group of them where nothing decodes.

        Where layers come and go, pictures alone are looked at here: prompts are read as the layers pass.
        """
        started_s = perf_counter()
        is_any_decoding = any(request.sequences is not None for request in self._scheduler.running)
        reader = self._reader
        while reader.begin() and not (self._layers_pass and reader.next_layer is not None):
            self._read_on()
            if is_any_decoding and perf_counter() - started_s >= self._step_s:
                return
            if not is_any_decoding and not reader.group:
                return  # so that their answers begin at once

    def _read_on(self) -> None:
        """A slice of the prompts that are being read."""
        group = list(self._reader.group)
        problem = self._attempt(group, partial(self._read_slice, group))
        if problem is not None and len(group) > 1:
            self._reader.read_one_by_one()
        elif problem is not None:
            self._reader.drop(group[0])
            self._give_up(group[0], problem)

    def _read_slice(self, group: Sequence[ChatRequest]) -> None:
        started_s = perf_counter()
        with in_threads(self._reading_threads or torch.get_num_threads()):
            part = self._reader.read_slice()
        elapsed_s = self._elapsed_s(started_s)
        for request in group:
            request.note_read(part, elapsed_s)

    def _read_layer(self, layer: int) -> None:
        """The part of the prompts that waits for this layer, which is there now."""
        if self._reader.next_layer == layer:
            self._read_on()

    def _read_with(self, decoding: Sequence[ChatRequest]) -> None:
        """Where layers come and go: ends prompts that all of them have passed, and has them pass where none decodes."""
        if not self._layers_pass or self._reader.next_layer is None:
            return
        llm = self._runtime.model.llm
        if not decoding:
            for layer, _ in enumerate(llm.blocks):
                self._read_layer(layer)
        self._read_layer(len(llm.blocks))

    # Answers ---------------------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        """A token of every row, in as few calls as memory allows."""
        decoding = ready = self._with_room()
        max_rows = self._rows_per_call
        while ready:
            group = first_ones(ready, max_rows)
            problem = self._attempt(group, partial(self._feed, group))
            if problem is not None and len(group) > 1:  # whose it is shows in a smaller call
                max_rows = sum(request.num_rows for request in group) // 2
                if problem.code == "out_of_memory":
                    self._rows_per_call = max_rows
                continue
            if problem is not None:
                self._give_up(group[0], problem)
            ready = ready[len(group) :]
        self._read_with(decoding)

    def _with_room(self) -> list[ChatRequest]:
        """Those that decode and have slots for their next tokens; the youngest may have to give theirs up."""
        scheduler = self._scheduler
        for request in list(scheduler.running):
            if request.sequences is None or request not in scheduler.running:
                continue
            try:
                preempted = scheduler.make_room(request)
            except PoolExhausted as error:
                request.events.append(Failed(code="out_of_memory", message=f"{error}; ask for fewer new tokens"))
                continue
            for one in preempted:
                self._reader.drop(one)
        return [request for request in scheduler.running if request.sequences is not None and not request.has_ended]

    def _feed(self, group: Sequence[ChatRequest]) -> None:
        started_s = perf_counter()
        sequences = [request.sequences for request in group if request.sequences is not None]
        choices = self._batch.step(sequences, self._read_layer if self._layers_pass else None)
        self._step_s = self._elapsed_s(started_s)
        self._observe("decode_step_s", self._step_s)
        for request, chosen in zip(group, choices, strict=True):
            request.decode_s += self._step_s
            try:
                request.advance(chosen)
            except NonFiniteLogits as error:
                request.events.append(Failed(code="generation_failed", message=str(error)))

    # Turns on a device that is shared --------------------------------------------------------------------------------

    def modules(self) -> Sequence[nn.Module]:
        return [self._loaded.model]

    def settle(self) -> None:
        """Reads the prompts in progress to their end: their slices keep tensors that nobody else knows."""
        with torch.inference_mode():
            while self._reader.group:
                self._read_on()
        self._batch.release()

    def in_use(self) -> Iterator[InUse]:
        """Keys and values of requests' blocks, and pictures. A request that began again each turn might never end."""
        pool = self._runtime.pool
        blocks = [block for request in self._requests.values() for block in request.table.blocks]
        slots = torch.tensor(blocks, dtype=torch.int64)[:, None] * BLOCK_SLOTS + torch.arange(BLOCK_SLOTS)
        for tensor in (*pool.keys, *pool.values):
            yield InUse(tensor, slots.flatten())
        for embeddings in self._image_embeddings.values():
            yield InUse(embeddings)

    # Failures --------------------------------------------------------------------------------------------------------

    def _attempt(self, requests: Sequence[ChatRequest], work: Callable[[], None]) -> Failed | None:
        """Does it, or says what went wrong, except with an accelerator that is lost to all."""
        try:
            work()
            return None
        except JobRejected as error:
            return Failed(code=error.code, message=error.message)
        except torch.AcceleratorError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                if len(requests) == 1:
                    logger.exception("job %s failed", requests[0].job.job_id)
                return Failed(code="job_failed", message=f"the model failed on this job: {type(error).__name__}")
        # Only here is the exception, whose traceback holds tensors, gone.
        self._image_embeddings.clear()
        release_memory(self._runtime.device)
        return Failed(code="out_of_memory", message="")

    def _give_up(self, request: ChatRequest, problem: Failed) -> None:
        """Ends a job, or lets it begin again when nothing else runs, if memory alone is the problem."""
        generation = request.job.generation
        if problem.code != "out_of_memory":
            request.events.append(problem)
        elif not request.is_alone:
            logger.warning("job %s ran out of memory; it is run again alone", request.job.job_id)
            request.is_alone = True
            self._scheduler.preempt(request)
        else:
            message = (
                f"not enough memory for {generation.num_beams} beams of {generation.max_new_tokens} new tokens, even "
                "with no other job in progress; ask for fewer"
            )
            request.events.append(Failed(code="out_of_memory", message=message))

    def _end(self, job_id: str) -> None:
        """Forgets a job, if it is there, and frees what it holds."""
        request = self._requests.pop(job_id, None)
        if request is None:
            return
        self._reader.drop(request)
        if request.table.blocks:
            self._typical_blocks += (len(request.table.blocks) - self._typical_blocks) / 8
        self._scheduler.remove(request)
        request.preempt()

    def _elapsed_s(self, started_s: float) -> float:
        """Seconds since then, the device's work included."""
        if self._runtime.device.type == "cuda":
            torch.cuda.synchronize(self._runtime.device)
        return perf_counter() - started_s


def create_engine(config: EngineConfig, observe: Observe) -> Engine:
    """A ChatEngine on the device that the configuration names, or what gives it that device in turn.

    Raises:
        DeviceUnusable: torch cannot compute there.
        QueueUnusable: the folder by which workers take turns cannot be used.
        CheckpointError: anything wrong with the files.
        OffloadUnusable: BMInf is wanted and cannot run here.
        ValueError: an unknown dtype; a budget of memory that nothing fits.
    """
    if config.dtype not in DTYPES:
        raise ValueError(f"dtype {config.dtype!r}; one of {', '.join(DTYPES)} is allowed")
    config = within_budget(config)
    refuse_unsupported(config)
    if config.devices:
        from models.engines.chat.parallel.engine import create_parallel_engine  # which is made of this one

        return create_parallel_engine(config, observe)
    device = open_device(config, observe)
    return device.around(load_engine(config, observe, device))


def load_engine(config: EngineConfig, observe: Observe, device: OwnDevice | SharedDevice) -> ChatEngine:
    """Loads the checkpoint, folds its scalings, packs its weights, warms up and fills the pool with what is left.

    Raises:
        CheckpointError: anything wrong with the files.
    """
    started_s = perf_counter()
    path = Path(config.checkpoint)
    vocabulary = Path(config.vocabulary) if config.vocabulary else None
    dtype, is_offloaded = DTYPES[config.dtype], config.offload != "off"
    loaded = load_chat(
        path,
        vocabulary,
        "cpu" if is_offloaded else device.load_device,
        None if is_offloaded else dtype,
        quantization="off" if is_offloaded else config.quantization,
        is_to_change=not is_offloaded,
    )
    if is_offloaded:
        offload(loaded.model, loaded.model.llm, device.device, dtype, config)
    else:
        fold_scalings(loaded.model.llm)
        device.begin(loaded.model)
    engine = ChatEngine(loaded, path.stem, config.max_jobs, observe, WARM_UP_BLOCKS, config.fold_traditional)
    pack_resident(loaded.model, loaded.model.llm)
    trim_heap()
    loaded_s = perf_counter()
    engine.warm_up()
    weight = loaded.model.llm.embedding.weight
    engine.make_pool(num_blocks := pool_blocks(loaded.config.llm, weight.dtype, weight.device, config))
    logger.info(
        "chat engine loaded in %.1f s, warmed up in %.1f s; keys and values of %d tokens, %.2f GB",
        loaded_s - started_s,
        perf_counter() - loaded_s,
        num_blocks * BLOCK_SLOTS,
        num_blocks * BLOCK_SLOTS * slot_bytes(loaded.config.llm, DTYPES[config.dtype]) / 1e9,
    )
    return engine
