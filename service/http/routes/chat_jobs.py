"""From what is asked of chat to its job in the queue: one way for every route that asks."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from models.jobs import ChatGeneration, ChatJob, ModelDescription, Turn
from service.core.errors import ContextLengthExceeded, ConversationBusy, InvalidRequest, NotFound
from service.http.admission import Slot
from service.http.dependencies import ApiState
from service.http.schemas.requests import MAX_SEED
from service.image_input.copies import is_copy
from service.image_input.recent_pixels import InputPixels
from service.jobs.conversations import new_conversation_id, unix_time_s
from service.jobs.intents import ChatIntent
from service.jobs.screened_stream import JobStream
from service.queue.conversation_record import Conversation, ConversationMeta
from service.queue.vision_cache import picture_key


@dataclass(frozen=True)
class Asked:
    """One question, as any route asks it.

    Attributes:
        conversation_id: to go on with; None: the question is the first of its talk that is kept here.
        after_turns: that the conversation must have; None: any number.
        regenerates: the question is that of the conversation's last turn, whose answer this one's replaces.
        is_kept: whether the turn goes into a conversation.
        kept: earlier turns of a conversation that this one branches off, before those that came with the request.
        begins: id of the conversation that begins with it; empty: drawn.
        told: by the route, of the answer before it is there (ChatIntent).
        brought: earlier turns that came with the request, oldest first.
        gone_turns: of those, the oldest that were left out.
        stops: texts at which the answer may end.
    """

    question: str
    generation: ChatGeneration
    seed: int
    conversation_id: str | None = None
    after_turns: int | None = None
    regenerates: bool = False
    is_kept: bool = True
    kept: list[Turn] = field(default_factory=list)
    brought: list[Turn] = field(default_factory=list)
    gone_turns: int = 0
    stream: bool = False
    stops: Sequence[str] = ()
    strict_length: bool = False
    raw: bool = False
    begins: str = ""
    told: bytes = b""
    param: str = "conversation_id"  # the request's field for it, which errors name
    image_param: str = "image"


@dataclass(frozen=True)
class ChatContext:
    """Whose request it is, and the model that it expects."""

    tenant: str
    request_id: str
    model: ModelDescription


def seed_or_drawn(seed: int | None, index: int = 0) -> int:
    """The seed of the answer at `index`; what is negative counts from the other end."""
    return (secrets.randbits(31) if seed is None else seed + index) % (MAX_SEED + 1)


async def submit_question(
    state: ApiState, slot: Slot, context: ChatContext, asked: Asked, pixels: InputPixels | None
) -> tuple[JobStream, ChatIntent]:
    """Queue the question; what comes of it. Raises as Conversations.open and Slot.submit, and InvalidRequest."""
    opened = await _open(state, context.tenant, asked, slot.job_id, pixels)
    if opened is not None and asked.strict_length:
        _require_room(opened, asked.param, state.settings.conversation_max_turns)
    job = _job(slot.job_id, context, asked, opened, pixels)
    intent = _intent(context, asked, job, opened, pixels)
    return await slot.submit(job, intent), intent


async def _open(
    state: ApiState, tenant: str, asked: Asked, job_id: str, pixels: InputPixels | None
) -> Conversation | None:
    """The conversation that the question belongs to, marked busy; None: a new one, or none at all."""
    if asked.conversation_id is None:
        return None
    try:
        conversation = await state.conversations.open(tenant, asked.conversation_id, job_id)
    except (ConversationBusy, NotFound) as error:
        error.param = asked.param
        raise
    if asked.after_turns not in (None, conversation.num_turns):
        raise ConversationBusy("another turn was added to this conversation just now; ask again", param=asked.param)
    if pixels is not None and not await _may_bring(state, conversation, pixels):
        raise InvalidRequest(
            f"{asked.image_param}: the conversation is about another picture; leave the image out, or begin a new "
            "conversation",
            param=asked.image_param,
        )
    return msgspec.structs.replace(conversation, turns=conversation.turns[:-1]) if asked.regenerates else conversation


async def _may_bring(state: ApiState, conversation: Conversation, pixels: InputPixels) -> bool:
    """A picture where there is none, or once more what is kept: the same pixels, or a copy compressed or resized."""
    kept = conversation.meta
    if not kept.image_sha256 or kept.image_sha256 == pixels.sha256:
        return True
    if kept.image_size_px != pixels.side_px:  # it was kept for another model, which is told later
        return True
    return is_copy(await state.conversations.pixels(conversation), pixels.rgb, pixels.side_px)


def _require_room(opened: Conversation, param: str, max_turns: int) -> None:
    """Raises ContextLengthExceeded where a turn is gone, or this one would drop one."""
    num_turns = opened.num_turns + 1
    if num_turns > max_turns:
        raise ContextLengthExceeded(
            f"strict_length: the talk has {num_turns} turns with this one, and {max_turns} are kept "
            "(VISCPM_CONVERSATION_MAX_TURNS)",
            param=param,
        )


def _job(
    job_id: str, context: ChatContext, asked: Asked, opened: Conversation | None, pixels: InputPixels | None
) -> ChatJob:
    """A later turn names the conversation's pixels, which its worker reads where the image is no longer cached.

    One that brings a picture to a conversation without any carries it, as a first turn does.
    """
    rgb, side_px, sha256 = (b"", 0, "") if pixels is None else pixels
    kept_at = ""
    if opened is not None and opened.meta.image_sha256:
        rgb, side_px, sha256 = b"", opened.meta.image_size_px, opened.meta.image_sha256
        kept_at = opened.pixels_key
        if side_px != context.model.image_size_px:
            raise InvalidRequest(
                f"{asked.param}: the conversation's picture was kept for a model of {side_px} px, and this one "
                f"takes {context.model.image_size_px} px; begin a new conversation",
                param=asked.param,
            )
    return ChatJob(
        job_id=job_id,
        request_id=context.request_id,
        question=asked.question,
        history=[*([] if opened is None else opened.history()), *asked.kept, *asked.brought],
        pixels=rgb,
        image_size_px=side_px,
        image_key=picture_key(context.tenant, sha256) if sha256 else "",
        pixels_key=kept_at,
        generation=asked.generation,
        seed=asked.seed,
        stream=asked.stream,
        stops=list(asked.stops),
        strict_length=asked.strict_length,
        raw_text=asked.raw,
    )


def _intent(
    context: ChatContext, asked: Asked, job: ChatJob, opened: Conversation | None, pixels: InputPixels | None
) -> ChatIntent:
    created, model = unix_time_s(), context.model
    begun, joined = None, None
    if opened is not None and pixels is not None and not opened.meta.image_sha256:
        joined = msgspec.structs.replace(opened.meta, image_sha256=pixels.sha256, image_size_px=job.image_size_px)
    if asked.is_kept and opened is None:
        begun = ConversationMeta(
            created=created,
            model=model.name,
            fingerprint=model.fingerprint,
            image_sha256="" if pixels is None else pixels.sha256,
            image_size_px=job.image_size_px,
            earlier=[*asked.kept, *asked.brought],
        )
    return ChatIntent(
        tenant=context.tenant,
        created=created,
        model=model.name,
        conversation_id=(asked.conversation_id or asked.begins or new_conversation_id()) if asked.is_kept else "",
        question=asked.question,
        seed=job.seed,
        begun=begun,
        untrained=model.untrained,
        joined=joined,
        has_image=job.has_image,
        generation=asked.generation if asked.is_kept else None,
        regenerates=asked.regenerates,
        gone_turns=asked.gone_turns + (0 if opened is None else opened.num_gone),
        brought_turns=len(asked.brought),
        told=asked.told,
    )
