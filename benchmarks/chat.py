"""The chat engine beside the reference's algorithm and beside transformers' beam search, on one random model.

    python benchmarks/chat.py --vocabulary FILE [--rounds 3] [--json FILE]

Mid size: width 512, 12 layers, 8 heads, the real vocabulary; 3 beams, text prompts. All run in this process, in turns.
The peer is a Llama of the same sizes under `generate`: a static batch of the same prompts, which runs as long as its
longest answer. Tokens are counted as asked for: random models do not end by themselves.
"""

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import reference_chat
from models.checkpoints.loading import LoadedChat
from models.checkpoints.random_weights import random_chat
from models.engines.chat.engine import ChatEngine
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.search.vocabulary import AnswerVocabulary
from models.engines.packed_linear import pack_language_model
from models.jobs import ChatGeneration, ChatJob, Delta, Failed, Generated
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.config import VisionConfig

SIZES = {"dim_model": 512, "dim_ff": 1280, "num_layers": 12, "num_heads": 8, "dim_head": 64}
VISION = VisionConfig(32, patch_size_px=16, width=64, num_heads=2, dim_ff=64, num_layers=1, num_query_positions=8)
QUESTION = "What is in the picture, and where does it stand? " * 12  # some 170 tokens with the frame around it
BEAMS = 3
TOGETHER = 16
SHORTEST, LONGEST = 16, 128


def make_model(tokenizer: Tokenizer) -> LoadedChat:
    llm = CPMBeeConfig(tokenizer.vocab_size, half=False, **SIZES)
    config = ChatConfig(llm=llm, vision=VISION, num_query_tokens=4)
    model = random_chat(config, "cpu", torch.float32, seed=7)
    fold_scalings(model.llm)
    return LoadedChat(model, tokenizer, config, fingerprint="random", untrained=True)


class Ours:
    def __init__(self, tokenizer: Tokenizer) -> None:
        loaded = make_model(tokenizer)
        self.engine = ChatEngine(loaded, "random", 64, lambda name, value: None, num_blocks=1000)
        pack_language_model(loaded.model.llm)
        self.prompt_tokens = 0

    def run(self, lengths: list[int]) -> list[list[int]]:
        """Ids of the answers to as many questions at once."""
        for number, length in enumerate(lengths):
            self.engine.admit(question(str(number), length))
        answers: dict[str, list[int]] = {}
        while len(answers) < len(lengths):
            for job_id, event in self.engine.step():
                assert not isinstance(event, Failed), event
                if isinstance(event, Generated):
                    answers[job_id] = event.result.token_ids
                    self.prompt_tokens = event.result.prompt_tokens
        return [answers[str(number)] for number in range(len(lengths))]

    def newcomer(self) -> tuple[float, float, float]:
        """Seconds to a newcomer's first token while 16 answers run, of its prefill alone, and of one step of the 16."""
        started_s = time.perf_counter()
        self.engine.admit(question("alone", 1, is_greedy=True))
        while not self.engine.step():
            pass
        alone_s = time.perf_counter() - started_s
        for number in range(TOGETHER):
            self.engine.admit(question(str(number), LONGEST))
        while self.engine.load.waiting:
            self.engine.step()
        self.engine.step()  # the last one's prompt may be half read
        steps_s = [timed(self.engine.step) for _ in range(8)]
        self.engine.admit(question("newcomer", 4, is_greedy=True))
        started_s = time.perf_counter()
        while not any(isinstance(event, Delta) for _, event in self.engine.step()):
            pass
        waited_s = time.perf_counter() - started_s
        for number in range(TOGETHER):
            self.engine.cancel(str(number))
        self.engine.cancel("newcomer")
        return waited_s, alone_s, statistics.median(steps_s)


class Reference:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self.loaded = make_model(tokenizer)

    def run(self, lengths: list[int]) -> list[list[int]]:
        """One after the other."""
        answers = []
        for length in lengths:
            job = question("", length)
            batch = pack_prompts([build_prompt(job, self.loaded.tokenizer, 0)], self.loaded.tokenizer)
            vocabulary = AnswerVocabulary.of_batch(batch, self.loaded.tokenizer)
            answers.append(reference_chat.answer(self.loaded.model.llm, batch, vocabulary, job.generation))
        return answers


class Peer:
    """transformers' beam search over a static batch."""

    def __init__(self, vocab_size: int, prompt_tokens: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=SIZES["dim_model"],
            intermediate_size=SIZES["dim_ff"],
            num_hidden_layers=SIZES["num_layers"],
            num_attention_heads=SIZES["num_heads"],
            tie_word_embeddings=True,
            max_position_embeddings=1024,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=None,
        )
        torch.manual_seed(0)
        self.model = LlamaForCausalLM(config).eval()
        self.prompt = torch.randint(3, vocab_size, (1, prompt_tokens))

    def run(self, lengths: list[int]) -> None:
        longest = max(lengths)
        ids = self.prompt.expand(len(lengths), -1)
        self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=BEAMS,
            do_sample=False,
            repetition_penalty=1.1,
            min_new_tokens=longest,
            max_new_tokens=longest,
        )


def question(job_id: str, length: int, is_greedy: bool = False) -> ChatJob:
    generation = ChatGeneration(max_new_tokens=length, num_beams=1 if is_greedy else BEAMS)
    return ChatJob(job_id=job_id, question=QUESTION, generation=generation, stream=is_greedy)


def timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def measure(vocabulary: Path, rounds: int, longest: int) -> dict[str, list[float]]:
    """Tokens a second of each, by round, and the newcomer's times in steps."""
    tokenizer = Tokenizer(vocabulary)
    ours, reference = Ours(tokenizer), Reference(tokenizer)
    same = ours.run([24]), reference.run([24])
    assert same[0] == same[1], f"different tokens: {same}"
    peer = Peer(tokenizer.vocab_size, ours.prompt_tokens)
    lengths = [SHORTEST + number * (longest - SHORTEST) // (TOGETHER - 1) for number in range(TOGETHER)]
    runs: dict[str, tuple[Callable[[list[int]], object], list[int]]] = {
        "reference, 1": (reference.run, [longest]),
        "transformers, 1": (peer.run, [longest]),
        "ours, 1": (ours.run, [longest]),
        "transformers, 16": (peer.run, lengths),
        "ours, 16": (ours.run, lengths),
    }
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (run, asked) in runs.items():
            found.setdefault(name, []).append(sum(asked) / timed(lambda run=run, asked=asked: run(asked)))
        waited_s, alone_s, step_s = ours.newcomer()
        found.setdefault("newcomer: steps beyond its own prefill", []).append((waited_s - alone_s) / step_s)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, required=True, help="vocab.txt of CPM-Bee")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=int, default=LONGEST, help="tokens of the longest answer")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = measure(options.vocabulary, options.rounds, options.longest)
    for name, values in found.items():
        print(f"{name:>42} {statistics.median(values):8.1f}   of {', '.join(f'{value:.1f}' for value in values)}")
    ratios = {
        f"{ours} / {other}": statistics.median(a / b for a, b in zip(found[ours], found[other], strict=True))
        for ours, other in (
            ("ours, 1", "reference, 1"),
            ("ours, 1", "transformers, 1"),
            ("ours, 16", "reference, 1"),
            ("ours, 16", "transformers, 16"),
        )
    }
    for name, ratio in ratios.items():
        print(f"{name:>42} {ratio:8.2f}")
    print(json.dumps({"benchmark": "chat", "cores": os.cpu_count(), "threads": torch.get_num_threads(), **ratios}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
