"""POST /v1/moderations: what the safety screens find, asked for by itself (CONVENTIONS §3)."""

import asyncio
import secrets
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from safety.verdict import Picture, Verdict
from service.http.admission import tell_key_use
from service.http.bodies import read_json
from service.http.dependencies import ApiState, caller_of, state_of
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.bodies import MODERATION_BODY
from service.http.schemas.moderations import Moderation, ModerationRequest, ModerationResponse, TextPart

router = APIRouter(tags=["moderations"])

_TEXTS_AT_ONCE = 16
_SIDE_PX = 224  # the pictures' side, as Chat gets them


@router.post(
    "/v1/moderations",
    summary="Ask the safety screens",
    **documented(ModerationResponse, body=MODERATION_BODY, statuses=(408, 413, 415, 422, 429, 503), access="moderate"),
)
async def moderations(request: Request) -> Response:
    """Texts and pictures as the gate sees a question and its picture, in OpenAI's shape.

    A list of texts gives a result for each, anything else one. A category that no
    screen judges is null: it was not looked for.
    """
    state = state_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, ModerationRequest, state.settings)
    if (key := caller_of(request).key) is not None:
        tell_key_use(request, await state.queue.take_request(key))
    moderation_id = f"modr-{secrets.token_urlsafe(18)}"
    with state.moderating():
        texts = asked.texts()
        judged: list[list[Verdict]] = []
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            judging = [
                state.queue.judge(moderation_id, "question", text) for text in texts[first : first + _TEXTS_AT_ONCE]
            ]
            judged += [[verdict] for verdict in await asyncio.gather(*judging)]
        if parts := asked.parts():
            judged.append([])
            for part in parts:
                if isinstance(part, TextPart):
                    judged[0].append(await state.queue.judge(moderation_id, "question", part.text))
                else:
                    judged[0].append(await _picture(state, moderation_id, part.image_url.url))
    models = dict.fromkeys(model for verdicts in judged for one in verdicts for model in one.model.split("+"))
    results = [_merged(verdicts) for verdicts in judged]
    told = ModerationResponse(id=moderation_id, model="+".join(models), results=results)
    return tell_ignored(answered(told), asked.ignored(), state.metrics)


async def _picture(state: ApiState, moderation_id: str, url: str) -> Verdict:
    pixels = await state.images.pixels(url, _SIDE_PX)
    picture = Picture(pixels.rgb, "rgb", pixels.side_px, pixels.side_px)
    return await state.queue.judge(moderation_id, "input_image", picture)


def _merged(verdicts: Sequence[Verdict]) -> Moderation:
    """One result of all: found where it is found in one, with the highest score."""
    merged = Moderation(flagged=any(one.decision != "pass" for one in verdicts))
    for one in verdicts:
        applied = "image" if one.stage == "input_image" else "text"
        for category, score in one.scores.items():
            is_found = category in (one.found or ())
            merged.categories[category] = is_found or bool(merged.categories.get(category))
            merged.category_scores[category] = max(score, merged.category_scores.get(category) or 0.0)
            types = merged.category_applied_input_types.setdefault(category, [])
            if applied not in types:
                types.append(applied)
    return merged
