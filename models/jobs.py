"""What crosses the bus between the API and the workers, and what a worker asks of an engine.

Plain typed data, encoded as msgpack behind one version byte; no torch here. A process that meets another version
refuses it in one clear line instead of guessing.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

BUS_VERSION = 2

Model = Literal["chat", "paint"]
OnOffAuto = Literal["on", "off", "auto"]
Quantization = Literal["off", "int8", "int4"]  # of the language model's linear layers; nothing else is quantized
Offload = Literal["off", "streamed", "bminf"]
Kind = Literal["chat", "paint", "safety"]  # what a worker serves: a model, or the heavy screens of the safety gate
SamplerName = Literal["ddpm", "ddim", "dpm++", "euler"]  # ddpm: the reference's


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of all that is sent: immutable, named fields."""


class Turn(Message, frozen=True):
    """One earlier question and answer. `answer` is in the tokenizer's escaped form (`<` doubled)."""

    question: str
    answer: str

    @staticmethod
    def of_plain(question: str, answer: str) -> "Turn":
        """Of an answer as it is displayed, in which no character has a special meaning."""
        return Turn(question=question, answer=answer.replace("<", "<<"))

    @property
    def plain_answer(self) -> str:
        return self.answer.replace("<<", "<")


class ChatGeneration(Message, frozen=True):
    """How an answer is searched for. `do_sample` samples; otherwise `num_beams` 1 is greedy and more is beam search."""

    max_new_tokens: int = 514  # ids at most, the final eos included: the reference's max_length 512 (SPEC §7)
    num_beams: int = 3
    do_sample: bool = False
    temperature: float = 0.7
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    repetition_penalty: float = 1.1
    repetition_window: int | None = None
    length_penalty: float = 3.0
    max_input_tokens: int = 3000  # the full conversion, answer leaf included (SPEC §6)


class ChatJob(Message, frozen=True, tag="chat"):
    """One question about one image (or about none).

    `pixels` is RGB uint8, row-major, height = width = `image_size_px`, resized as SPEC §5. They travel beside the job:
    a worker reads them where its engine asks for the image. `image_key` names the image: tenant salt and digest of the
    pixels.
    """

    job_id: str
    question: str
    history: list[Turn] = []
    pixels: bytes = b""
    image_size_px: int = 0
    image_key: str = ""
    pixels_key: str = ""  # in Redis, of a conversation's later turns; a first turn's lie at `pixels:{job_id}`
    image_embeddings: bytes = b""  # cached ones, put in by the worker before `admit`; empty when there are none
    generation: ChatGeneration = ChatGeneration()
    seed: int = 0
    stream: bool = False
    stops: list[str] = []  # none of them empty: the answer may end with the token that completes one
    strict_length: bool = False  # raise on an over-long conversation instead of dropping its oldest turns
    raw_text: bool = False  # parse special tokens in user text, as the reference does (SPEC §11.1)
    request_id: str = ""  # of the HTTP request, for log lines

    @property
    def has_image(self) -> bool:
        return bool(self.image_size_px or self.pixels or self.image_embeddings)


class PaintJob(Message, frozen=True, tag="paint"):
    """One prompt. Candidate i starts from a CPU generator with `seed + i`."""

    job_id: str
    prompt: str
    negative_prompt: str = ""
    candidates: int = 1
    rerank: Literal["auto", "on", "off"] = "auto"
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    height_px: int = 512
    width_px: int = 512
    seed: int = 0
    previews: int = 0  # intermediate pictures wanted
    raw_text: bool = False
    language: str = "zh"  # of the prompt: which reranker judges
    sampler: SamplerName = "ddpm"
    request_id: str = ""  # of the HTTP request, for log lines


class SafetyJob(Message, frozen=True, tag="safety"):
    """One content for the heavy screens: a picture or a text. `content_key` is the same for the same content alone.

    `pixels` is RGB uint8, row-major, height × width × 3.
    """

    job_id: str
    content_key: str
    pixels: bytes = b""
    width_px: int = 0
    height_px: int = 0
    text: str = ""
    is_answer: bool = False  # whether the text is one of a model's
    request_id: str = ""  # of the first HTTP request that asked for it, for log lines


Job = ChatJob | PaintJob | SafetyJob


class Delta(Message, frozen=True, tag="delta"):
    """New answer text. `offset_chars` counts the characters of the answer before `text`."""

    token_ids: list[int]
    text: str
    offset_chars: int


class Progress(Message, frozen=True, tag="progress"):
    """One finished denoising step of `total_steps`; `preview_png` where a preview was asked for."""

    step: int
    total_steps: int
    preview_png: bytes = b""


class ChatResult(Message, frozen=True, tag="chat_result"):
    """`answer` is for display; `answer_escaped` goes into the history (SPEC §11.2)."""

    answer: str
    answer_escaped: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    image_tokens: int
    completion_tokens: int
    token_ids: list[int]
    dropped_turns: int = 0
    vision_cached: bool = False
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Candidate(Message, frozen=True):
    png: bytes
    seed: int
    score: float | None = None


class PaintResult(Message, frozen=True, tag="paint_result"):
    """Candidates best first when reranked, else in the order of their seeds. `reranker` names what scored them.

    `unknown_words` are what the vocabulary has no token for, as it was written.
    """

    candidates: list[Candidate]
    prompt_tokens: int
    height_px: int
    width_px: int
    reranker: str = ""
    unknown_words: list[str] = []
    denoise_s: float = 0.0
    decode_s: float = 0.0


class ScreenFinding(Message, frozen=True):
    """What one screen, of that version, scored: 0 to 1 in each category that it judges."""

    screen: str
    scores: dict[str, float]
    version: str = ""


class SafetyResult(Message, frozen=True, tag="safety_result"):
    """Findings of every screen that there is for this kind of content.

    `fingerprint` is of the screens that found them, which a pool of workers may have several of; empty: not to be kept.
    """

    findings: list[ScreenFinding]
    fingerprint: str = ""


class Generated(Message, frozen=True, tag="generated"):
    """The worker's last event: an unscreened result.

    Its worker adds the model that gave it: while a model is being changed, the request may have expected another.
    """

    result: ChatResult | PaintResult | SafetyResult
    model: str = ""
    fingerprint: str = ""
    untrained: bool = False


class Failed(Message, frozen=True, tag="failed"):
    """The worker's last event when the job cannot be done. `code` is one of the API's error codes."""

    code: str
    message: str


class ImageEmbeddingsComputed(Message, frozen=True, tag="state_computed"):
    """Image embeddings to be cached. Stays in the worker: never sent to an API process."""

    key: str
    data: bytes


Event = Delta | Progress | Generated | Failed
EngineEvent = Event | ImageEmbeddingsComputed


class ModelDescription(Message, frozen=True):
    """What a worker serves, as its heartbeat tells."""

    kind: Kind
    name: str
    fingerprint: str
    untrained: bool = False
    device: str = "cpu"
    dtype: str = "float32"
    quantization: Quantization = "off"
    parameters: int = 0
    image_size_px: int = 0  # chat: the input picture's side
    image_tokens: int = 0  # chat: placeholders per picture
    image_embeddings_bytes: int = 0  # chat: of one picture; 0: any
    picture_size_px: int = 0  # paint: the default side
    picture_multiple_px: int = 0  # paint: sides are multiples of this
    rerankers: dict[str, str] = {}  # paint: names of the configured rerankers by the language of prompts
    screens: list[str] = []  # safety: names of the screens, as the policy knows them


class DeviceTurns(Message, frozen=True):
    """How workers share a device in turn."""

    lock_dir: str = ""  # folder that they all see; empty: this user's own
    turn_s: float = 10.0  # that one keeps it while another one waits
    idle_unload_s: float = 300.0  # that one keeps it without work while none waits
    device_bytes: int = 0  # of its memory that may be taken; 0: all


class EngineConfig(Message, frozen=True):
    """All that an engine is built from; filled from the settings by the worker role."""

    kind: Kind
    checkpoint: str  # file or folder; safety: the image checker's folder, empty for the bundled screens
    vocabulary: str = ""  # vocab.txt, for a bare .pt/.bin
    device: str = "cpu"
    devices: tuple[str, ...] = ()  # chat: where it is several that share one model
    dtype: str = "float32"
    quantization: Quantization = "off"  # done while loading; off: as the checkpoint is
    vae: str = ""  # paint: folder with config.json and weights, for a bare .pt
    rerankers: dict[str, str] = {}  # paint: folders of CLIPs by the language of the prompts that they judge
    prompt_checker: str = ""  # safety: folder of the checker of Chinese prompts
    prompt_checker_label: str = ""  # safety: its unsafe label
    image_classifier: str = ""  # safety: folder or file of a classifier whose labels the policy knows
    guard: str = ""  # safety: folder of a guard model
    guard_adapter: str = ""  # safety: its family
    guard_device: str = "cpu"
    guard_dtype: str = "float32"
    guard_batch_tokens: int = 4096  # safety: of one of its forward passes
    steps_offset: Literal[0, 1] = 0  # paint: timesteps of the pinned (0) or of newer diffusers (1), SPEC §8.4
    max_jobs: int = 1  # jobs in progress at once
    fold_traditional: OnOffAuto = "auto"  # characters to simplified ones; auto: as the checkpoint was trained
    full_every: int = 1  # paint: of a picture's steps, one in so many runs the whole UNet
    kv_bytes: int = 0  # chat: for keys and values of all jobs; 0: what the device has left
    memory_utilization: float = 0.9  # chat: of a GPU's memory, weights included, where kv_bytes is 0
    turns: DeviceTurns | None = None  # None: the device is this worker's own
    offload: Offload = "off"  # where the language model's layers are while they do not compute
    offload_bytes: int = 0  # of the device for those layers; 0: two layers streamed, what is free with bminf
    vram_budget_bytes: int = 0  # of the device for everything; 0: no plan is made
    planned: list[str] = []  # names of the fields above that a plan may change: nobody set them


class EngineLoad(Message, frozen=True):
    """How full an engine is. Blocks are of the memory that grows with answers; 0 where it has none."""

    running: int = 0
    waiting: int = 0
    preempted: int = 0  # of those that wait, in addition: they ran before
    kv_blocks: int = 0
    kv_blocks_used: int = 0


class VersionMismatch(Exception):
    """A job or event from a process of another version."""


def encode(message: Job | Event | ModelDescription) -> bytes:
    return bytes([BUS_VERSION]) + _encoder.encode(message)


def decode_job(data: bytes) -> Job:
    """Raises VersionMismatch, or msgspec.DecodeError when the bytes are no job."""
    return _job_decoder.decode(_payload(data))


def decode_event(data: bytes) -> Event:
    """Raises VersionMismatch, or msgspec.DecodeError when the bytes are no event."""
    return _event_decoder.decode(_payload(data))


def decode_description(data: bytes) -> ModelDescription:
    return _description_decoder.decode(_payload(data))


def _payload(data: bytes) -> memoryview:
    if not data or data[0] != BUS_VERSION:
        raise VersionMismatch(
            f"message of bus version {data[0] if data else 'none'}, this process speaks {BUS_VERSION}"
        )
    return memoryview(data)[1:]


_encoder = msgspec.msgpack.Encoder()
_job_decoder: msgspec.msgpack.Decoder[Job] = msgspec.msgpack.Decoder(ChatJob | PaintJob | SafetyJob)
_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Delta | Progress | Generated | Failed)
_description_decoder = msgspec.msgpack.Decoder(ModelDescription)


class JobRejected(Exception):
    """An engine cannot take or finish this job; the job fails and the engine goes on.

    Args:
        code: one of the API's error codes, such as `context_length_exceeded`.
        message: what was wrong, what was got, what is allowed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# A measured value and its name, such as ("prefill_s", 0.012); service.core.metrics has them all with their histograms.
Observe = Callable[[str, float], None]


class Engine(Protocol):
    """One model on one device, driven by one thread."""

    @property
    def description(self) -> ModelDescription: ...

    @property
    def capacity(self) -> int:
        """How many more jobs `admit` would take now."""

    def image_key(self, job: Job) -> str | None:
        """Cache key of the job's image, unless it has none or the engine holds its embeddings already.

        A job is admitted with its cached embeddings or its pixels where a key was given, and with neither where not.
        """

    def admit(self, job: Job) -> None:
        """Take a job in. Raises JobRejected where it cannot be done."""

    def step(self) -> list[tuple[str, EngineEvent]]:
        """One bounded slice of work on all admitted jobs: at most a prefill, a token or a denoising step each.

        Returns (job id, event) pairs; a job ends with its `Generated` or `Failed` and is then forgotten. Returns an
        empty list when nothing is admitted.
        """

    def cancel(self, job_id: str) -> None:
        """Drop a job, between two steps. Unknown ids are ignored."""

    # Two more where an engine has them: `load`, an EngineLoad, and `rest() -> float | None`, called while it has no
    # job, which tells after how many seconds it wants to be called again; None: not before the next job.


# An engine is built by a function of a dotted name `package.module:function` with this signature.
EngineFactory = Callable[[EngineConfig, Observe], Engine]
