"""What a worker does with a delivery, in one call."""

from models.jobs import ChatResult, Generated
from service.queue.consumer import Delivery, JobConsumer


async def take_one(worker: JobConsumer) -> Delivery:
    async def take() -> list[Delivery]:
        return await worker.take(1, lambda: 0, 0.1)

    for _ in range(3):  # the first one may only make the group
        if taken := await take():
            return taken[0]
    raise AssertionError("nothing to take")


async def generate(worker: JobConsumer, delivery: Delivery, answer: str = "answer") -> None:
    delivery.add(generated(answer))
    assert await worker.publish([delivery]) == ([], [delivery], [])


def generated(answer: str) -> Generated:
    return Generated(
        result=ChatResult(
            answer=answer,
            answer_escaped=answer,
            finish_reason="stop",
            prompt_tokens=1,
            image_tokens=0,
            completion_tokens=1,
            token_ids=[],
        )
    )
