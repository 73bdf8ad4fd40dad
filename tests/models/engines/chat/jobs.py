"""Jobs that the tests of the chat engine share."""

from typing import Any

import pytest
import torch

from models.jobs import ChatGeneration, ChatJob, ChatResult

SIDE_PX = 32
GREEDY = ChatGeneration(max_new_tokens=20, num_beams=1)
SAMPLED = ChatGeneration(max_new_tokens=20, do_sample=True, temperature=1.5, top_p=0.95)
BEAMS = ChatGeneration(max_new_tokens=12)
EACH = pytest.mark.parametrize("generation", [GREEDY, SAMPLED, BEAMS], ids=["greedy", "sampled", "beams"])


def picture(seed: int) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3 * SIDE_PX**2,), dtype=torch.uint8, generator=generator).numpy().tobytes()


def job(job_id: str = "a", **fields: Any) -> ChatJob:
    fields = {
        "question": "Whatis图 日本 x<y",
        "pixels": picture(1),
        "image_size_px": SIDE_PX if fields.get("pixels") != b"" else 0,
        "generation": GREEDY,
    } | fields
    return ChatJob(job_id=job_id, **fields)


def timeless(result: ChatResult) -> tuple[object, ...]:
    return (result.answer_escaped, result.token_ids, result.finish_reason, result.prompt_tokens)


MIXED = [
    job("greedy", stream=True),
    job("sampled", generation=SAMPLED, seed=5, pixels=picture(2)),
    job("beams", generation=BEAMS, pixels=b"", question="Why?", stream=True),
    job("sampled2", generation=SAMPLED, seed=6, stream=True, question="图" * 9),
]
