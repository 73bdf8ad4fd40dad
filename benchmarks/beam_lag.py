"""How late a streamed token of a beam search is, on the checkpoint in the box: captions of pictures, and names alone.

    python benchmarks/beam_lag.py [--count 200]

A token's lag is the number of decode steps from its own, in which greedy decoding would send it, to the one in which it
is sent. Prints a table for people, then one JSON line for scripts.
"""

import argparse
import json
import statistics
from collections.abc import Iterator

from models.checkpoints.bundled import bundled_checkpoint
from models.datasets.examples import PixelArray
from models.emoji.names import bundled_names
from models.emoji.sources import EmojiConversations
from models.engines.chat.engine import create_engine
from models.jobs import ChatJob, Delta, Engine, EngineConfig, Failed, Generated

KINDS = {"scene": "captions", "name": "names"}  # of questions
SIDE_PX = 64
_SEED = 99


class Steps:
    """Counts the engine's decode steps."""

    def __init__(self) -> None:
        self.count = 0

    def observe(self, name: str, value: float) -> None:
        self.count += name == "decode_step_s"


def questions(kind: str, count: int) -> Iterator[tuple[str, PixelArray]]:
    """`count` first questions of a kind, in both languages, and their pictures."""
    conversations = EmojiConversations(bundled_names(), ["twemoji"], SIDE_PX, _SEED, 100 * count)
    for index in range(100 * count):
        scene, rounds = conversations.scene_and_rounds(index, 0)
        if rounds[0].kind == kind:
            yield rounds[0].question, conversations.draw(scene)
            count -= 1
        if not count:
            return


def lags(engine: Engine, steps: Steps, question: str, picture: PixelArray) -> list[int]:
    """Of each token of the answer, its end token included."""
    steps.count = 0
    job = ChatJob(job_id="a", question=question, pixels=picture.tobytes(), image_size_px=SIDE_PX, stream=True)
    engine.admit(job)
    sent: list[int] = []  # by token, the step it was sent in
    while True:
        for _, event in engine.step():
            if isinstance(event, Failed):
                raise SystemExit(f"{question}: {event.message}")
            if isinstance(event, Delta):
                sent += [steps.count] * len(event.token_ids)
            if isinstance(event, Generated):
                sent += [steps.count] * (event.result.completion_tokens - len(sent))
                return [step - own for own, step in enumerate(sent, start=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="answers of each kind")
    count = parser.parse_args().count
    steps = Steps()
    config = EngineConfig(kind="chat", checkpoint=str(bundled_checkpoint("chat")), max_jobs=1)
    engine = create_engine(config, steps.observe)
    rows = {}
    print(f"{count} answers each, 3 beams     tokens     lag in tokens     share of the answer's length")
    for kind, title in KINDS.items():
        found = [lags(engine, steps, question, picture) for question, picture in questions(kind, count)]
        rows[title] = {
            "tokens": round(statistics.mean(map(len, found)), 2),
            "lag_tokens": round(statistics.mean(map(statistics.mean, found)), 2),
            "lag_share": round(statistics.mean(statistics.mean(one) / len(one) for one in found), 3),
        }
        row = rows[title]
        print(f"{title:28}{row['tokens']:10.2f}{row['lag_tokens']:18.2f}{row['lag_share']:33.1%}")
    print(json.dumps({"benchmark": "beam_lag", "count": count, **rows}))


if __name__ == "__main__":
    main()
