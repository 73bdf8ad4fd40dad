"""What the finalizer of a job needs of its request. A struct inside a process; encoded where the job is queued.

It travels with the job, so that any API process can finish it.
"""

from collections.abc import Sequence

import msgspec

from models.jobs import ChatGeneration, ChatJob, ChatResult, Generated, Job, PaintJob, PaintResult, Turn
from safety.contents import Inputs, Output
from safety.text.language import Language
from safety.verdict import Picture, Stage, Verdict
from service.access.usage import Usage, encode_usage
from service.image_output.ai_labels import Origin
from service.jobs.answers import PictureFormat
from service.queue.conversation_record import ConversationMeta
from service.queue.record import UsageAppend


class ChatIntent(msgspec.Struct, frozen=True, omit_defaults=True, tag="chat"):
    """Of a chat request. Without a `conversation_id` nothing of it is kept.

    `begun` is there with a conversation's first turn; `joined`, with the turn that brings a picture to one that has had
    none: what it is about from then on.
    """

    tenant: str
    created: int
    model: str
    conversation_id: str
    question: str
    seed: int
    begun: ConversationMeta | None = None
    untrained: bool = False
    moderation: dict[str, object] = {}  # of the inputs; empty: nothing was judged
    joined: ConversationMeta | None = None
    has_image: bool = False
    generation: ChatGeneration | None = None  # as the turn is kept with it
    regenerates: bool = False  # the answer takes the place of the conversation's last one
    gone_turns: int = 0  # of the conversation, which the worker was not even handed
    brought_turns: int = 0  # the newest of the job's history: they came with the request, and nobody has judged them
    key_id: str = ""  # of the API key; empty: none was asked for
    told: bytes = b""  # by its route, of the response before it is there: kept with the answer, to be told again


class PaintIntent(msgspec.Struct, frozen=True, omit_defaults=True, tag="paint"):
    """Of a paint request. `quality` is of jpeg and webp."""

    tenant: str
    created: int
    model: str
    n: int
    output_format: PictureFormat
    quality: int
    seed: int
    untrained: bool = False
    fingerprint: str = ""  # of the model's weights
    request_id: str = ""
    language: Language = "zh"  # of the prompt
    moderation: dict[str, object] = {}  # of the inputs; empty: nothing was judged
    key_id: str = ""  # of the API key; empty: none was asked for
    steps: int = 0  # of denoising, of all candidates

    def origin(self, job_id: str) -> Origin:
        return Origin(job_id, self.created, self.model, self.fingerprint, self.request_id, self.language)


class SafetyIntent(msgspec.Struct, frozen=True, tag="safety"):
    """Of a screening: nothing follows from it but the verdict that somebody waits for."""


Intent = ChatIntent | PaintIntent | SafetyIntent


def with_model(intent: Intent, generated: Generated) -> Intent:
    """The intent with the model that gave the result, which need not be the one that the request expected."""
    if isinstance(intent, SafetyIntent) or not generated.model:
        return intent
    name, fingerprint, untrained = generated.model, generated.fingerprint, generated.untrained
    if isinstance(intent, PaintIntent):
        return msgspec.structs.replace(intent, model=name, fingerprint=fingerprint, untrained=untrained)
    begun = intent.begun
    if begun is not None:
        begun = msgspec.structs.replace(begun, model=name, fingerprint=fingerprint)
    return msgspec.structs.replace(intent, model=name, untrained=untrained, begun=begun)


def decode_intent(data: bytes) -> Intent:
    """As a job's record holds it. Raises msgspec.DecodeError."""
    return _decoder.decode(data)


def inputs_of(job: Job, intent: Intent) -> Inputs:
    """All that the gate is shown of a job before it is queued.

    A conversation's later turns bring no pixels: its picture was judged when it came in, as its texts were. A talk that
    the client keeps is judged as a whole: who says what a model has answered may say anything.
    """
    texts: list[tuple[Stage, str]]
    if isinstance(job, ChatJob):
        assert isinstance(intent, ChatIntent)
        side_px = job.image_size_px
        picture = Picture(job.pixels, "rgb", side_px, side_px) if job.pixels else None
        texts = [("question", job.question)]
        texts += texts_of(job.history[len(job.history) - intent.brought_turns :])
        return Inputs(texts, picture)
    assert isinstance(job, PaintJob)
    texts = [("prompt", job.prompt)]
    if job.negative_prompt:
        texts.append(("negative_prompt", job.negative_prompt))
    return Inputs(texts)


def texts_of(turns: Sequence[Turn]) -> list[tuple[Stage, str]]:
    """What the gate is shown of turns that somebody brought."""
    texts: list[tuple[Stage, str]] = []
    for turn in turns:
        texts += [("question", turn.question), ("answer", turn.plain_answer)]
    return [(stage, text) for stage, text in texts if text]


def output_of(result: ChatResult | PaintResult, intent: ChatIntent | PaintIntent) -> Output:
    """All that the gate is shown of a result before anything of it leaves."""
    if isinstance(result, ChatResult):
        return Output(answer=result.answer)
    assert isinstance(intent, PaintIntent)
    candidates = tuple(candidate.png for candidate in result.candidates)
    return Output(candidates=candidates, wanted=intent.n, language=intent.language)


def usage_of(intent: ChatIntent | PaintIntent, result: ChatResult | PaintResult) -> UsageAppend | None:
    """What a result counts for its API key, whatever the screens say of it. None: no key was asked for."""
    if not intent.key_id:
        return None
    if isinstance(result, ChatResult):
        used = Usage(prompt_tokens=result.prompt_tokens, completion_tokens=result.completion_tokens)
    else:
        steps = intent.steps if isinstance(intent, PaintIntent) else 0
        used = Usage(prompt_tokens=result.prompt_tokens, pictures=len(result.candidates), steps=steps)
    return UsageAppend(intent.key_id, encode_usage(used))


def moderation_of(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Verdicts as the API tells them (CONVENTIONS §1)."""
    models = dict.fromkeys(model for verdict in verdicts for model in verdict.model.split("+"))
    return {
        "type": "moderation_results",
        "model": "+".join(models),
        "results": [verdict.moderation() for verdict in verdicts],
    }


_decoder: msgspec.msgpack.Decoder[Intent] = msgspec.msgpack.Decoder(ChatIntent | PaintIntent | SafetyIntent)
