"""The chat engine beside the reference's algorithm and beside transformers' beam search, on one random model.

    python benchmarks/chat.py --vocabulary FILE [--rounds 3]
    python benchmarks/chat.py --size full --device cuda --dtype float16 --together 64 --sides ours reference

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
from benchmarks.random_engines import made_up_tokenizer
from models.checkpoints.loading import LoadedChat
from models.checkpoints.random_weights import random_chat
from models.engines.chat.engine import ChatEngine
from models.engines.chat.kv_pool import blocks_of
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.search.vocabulary import AnswerVocabulary
from models.engines.packed_linear import computes_packed, pack_language_model
from models.jobs import ChatGeneration, ChatJob, Delta, Failed, Generated
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.config import VisionConfig

SIZES = {
    "tiny": {"dim_model": 64, "dim_ff": 160, "num_layers": 2, "num_heads": 4, "dim_head": 16},
    "mid": {"dim_model": 512, "dim_ff": 1280, "num_layers": 12, "num_heads": 8, "dim_head": 64},
    "full": {"dim_model": 4096, "dim_ff": 10240, "num_layers": 48, "num_heads": 32, "dim_head": 128},
}
VOCABULARY_SIZES = {"tiny": 1_000, "mid": 86_583, "full": 86_583}  # made-up words, where no vocabulary is given
SIDES = ("ours", "reference", "transformers")
VISION = VisionConfig(32, patch_size_px=16, width=64, num_heads=2, dim_ff=64, num_layers=1, num_query_positions=8)
QUESTION = "What is in the picture, and where does it stand? " * 12  # some 170 tokens with the frame around it
BEAMS = 3
TOGETHER = 16
SHORTEST, LONGEST = 16, 128
NEWCOMER = "newcomer: steps beyond its own prefill"


def make_model(tokenizer: Tokenizer, size: str, device: str, dtype: torch.dtype) -> LoadedChat:
    llm = CPMBeeConfig(tokenizer.vocab_size, half=False, **SIZES[size])
    config = ChatConfig(llm=llm, vision=VISION, num_query_tokens=4)
    model = random_chat(config, device, dtype, seed=7)
    fold_scalings(model.llm)
    return LoadedChat(model, tokenizer, config, fingerprint="random", untrained=True)


class Ours:
    def __init__(self, loaded: LoadedChat, together: int) -> None:
        num_blocks = together * blocks_of(384)
        self.engine = ChatEngine(loaded, "random", max(together + 1, 64), lambda name, value: None, num_blocks)
        pack_language_model(loaded.model.llm)
        self.together = together
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
        """Seconds to a newcomer's first token while others answer, of its prefill alone, and of a step of theirs."""
        started_s = time.perf_counter()
        self.engine.admit(question("alone", 1, is_greedy=True))
        while not self.engine.step():
            pass
        alone_s = time.perf_counter() - started_s
        for number in range(self.together):
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
        for number in range(self.together):
            self.engine.cancel(str(number))
        self.engine.cancel("newcomer")
        return waited_s, alone_s, statistics.median(steps_s)


class Reference:
    def __init__(self, loaded: LoadedChat) -> None:
        self.loaded = loaded

    def run(self, lengths: list[int]) -> list[list[int]]:
        """One after the other."""
        answers = []
        for length in lengths:
            job = question("", length)
            device = self.loaded.model.query_tokens.device
            batch = pack_prompts([build_prompt(job, self.loaded.tokenizer, 0)], self.loaded.tokenizer).to(device)
            vocabulary = AnswerVocabulary.of_batch(batch, self.loaded.tokenizer)
            answers.append(reference_chat.answer(self.loaded.model.llm, batch, vocabulary, job.generation))
        return answers


class Peer:
    """transformers' beam search over a static batch."""

    def __init__(self, vocab_size: int, size: str, prompt_tokens: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = SIZES[size]
        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=sizes["dim_model"],
            intermediate_size=sizes["dim_ff"],
            num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"],
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


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens a second of each, by round, and the newcomer's times in steps."""
    if options.vocabulary is None:
        tokenizer = made_up_tokenizer(CPMBeeConfig(VOCABULARY_SIZES[options.size], **SIZES[options.size]))
    else:
        tokenizer = Tokenizer(options.vocabulary)
    dtype = getattr(torch, options.dtype)
    loaded = make_model(tokenizer, options.size, options.device, dtype)
    # A GPU's layers stay as they are loaded, and may be too large to have twice.
    is_packed = computes_packed(torch.device(options.device), dtype)
    of_reference = make_model(tokenizer, options.size, options.device, dtype) if is_packed else loaded
    together, longest = options.together, options.longest
    ours, reference = Ours(loaded, together), Reference(of_reference)
    same = ours.run([24]), reference.run([24])
    assert same[0] == same[1] or options.dtype != "float32", f"different tokens: {same}"
    lengths = [SHORTEST + number * (longest - SHORTEST) // (together - 1) for number in range(together)]
    runs: dict[str, tuple[Callable[[list[int]], object], list[int]]] = {}
    if "reference" in options.sides:
        runs["reference, 1"] = reference.run, [longest]
    if "transformers" in options.sides:
        peer = Peer(tokenizer.vocab_size, options.size, ours.prompt_tokens)
        runs["transformers, 1"] = peer.run, [longest]
        runs[f"transformers, {together}"] = peer.run, lengths
    runs["ours, 1"] = ours.run, [longest]
    runs[f"ours, {together}"] = ours.run, lengths
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, (run, asked) in runs.items():
            found.setdefault(name, []).append(sum(asked) / timed(lambda run=run, asked=asked: run(asked)))
        waited_s, alone_s, step_s = ours.newcomer()
        found.setdefault(NEWCOMER, []).append((waited_s - alone_s) / step_s)
    return found


def main() -> int:
    options = _parser().parse_args()
    warnings.simplefilter("ignore")
    found = measure(options)
    for name, values in found.items():
        print(f"{name:>42} {statistics.median(values):8.1f}   of {', '.join(f'{value:.1f}' for value in values)}")
    many = f"ours, {options.together}"
    pairs = [("ours, 1", other) for other in ("reference, 1", "transformers, 1")]
    pairs += [(many, other) for other in ("reference, 1", f"transformers, {options.together}", "ours, 1")]
    ratios = {
        f"{ours} / {other}": statistics.median(a / b for a, b in zip(found[ours], found[other], strict=True))
        for ours, other in pairs
        if other in found
    }
    for name, ratio in ratios.items():
        print(f"{name:>42} {ratio:8.2f}")
    where = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "device": options.device}
    rates = {name: round(statistics.median(values), 2) for name, values in found.items() if name != NEWCOMER}
    print(
        json.dumps(
            {"benchmark": "chat", **where, "size": options.size, "dtype": options.dtype, **ratios}
            | {"tokens_per_s": rates, "newcomer_steps": statistics.median(found[NEWCOMER])}
        )
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt of CPM-Bee; without: as many made-up words")
    parser.add_argument("--size", default="mid", choices=SIZES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--together", type=int, default=TOGETHER, help="requests at once, at least 2")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=int, default=LONGEST, help="tokens of the longest answer")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
