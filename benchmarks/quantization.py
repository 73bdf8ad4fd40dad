"""What quantization of the language model saves, and what it costs in answers, pictures and time.

    python benchmarks/quantization.py [--parity DIR] [--names 120] [--pictures 12] [--rounds 5]

memory    bytes of the language model beside bfloat16: of the published sizes by arithmetic, of a mid-size model
          (width 512, 12 layers, a vocabulary in the published proportion to them) as it lies in memory
answers   share of the emoji benchmark's questions that the bundled checkpoint answers to the letter as without
          quantization, by kind of question and language, and how many rightly; bfloat16 is held against bfloat16
states    error of prefill's hidden states and of logits, relative to their size: of the folder of reference numbers
          and of the bundled checkpoint; for Paint of the hidden states of names, and of the pictures in bytes
products  milliseconds of one layer's product with 1 to 173 rows, the least of rounds in turns, beside packed float32
speed     tokens/s of the mid-size model with the real vocabulary's size, 3 beams, one and 16 requests, rounds in turns
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.chat import QUESTION, SIZES, VISION
from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.config_from_shapes import PUBLISHED_LLM
from models.checkpoints.conversion import write_folder
from models.checkpoints.loading import LoadedChat, LoadedPaint, load_chat, load_paint
from models.checkpoints.published_names import published_name
from models.checkpoints.quantization.rounding import quantize
from models.checkpoints.quantization.sizes import weight_bytes
from models.checkpoints.random_weights import random_chat
from models.checkpoints.tiny import tiny_vocabulary
from models.emoji.names import EmojiName, bundled_names
from models.emoji.scenes.renderer import Renderer
from models.emoji.sources import EVALUATION_SEED
from models.engines.chat.engine import ChatEngine, create_engine
from models.engines.packed_linear import PackedLinear, pack_language_model
from models.engines.paint.prompt import pack_job
from models.engines.quantized_layout import laid_out
from models.evaluation.emoji.benchmark import Answered, drawn_names, mixed_items, named_items, run_benchmark
from models.evaluation.emoji.classifier import FILE as CLASSIFIER_FILE
from models.evaluation.emoji.classifier import load_classifier
from models.evaluation.emoji.cli import MAX_NEW_TOKENS, choose_names
from models.evaluation.emoji.painting import PaintSettings, paint
from models.jobs import ChatGeneration, ChatJob, EngineConfig, Failed, Generated, PaintJob, Quantization
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.model import CPMBee
from models.parity.fixtures import Fixtures
from models.parity.language import decode_forced, pack_case

QUANTIZED: tuple[Quantization, ...] = ("int8", "int4")
MOST_OF_BFLOAT16 = {"int8": 0.55, "int4": 0.32}
LEAST_AGREEMENT = {"int8": 0.99, "int4": 0.95}
GREEDY = ChatGeneration(max_new_tokens=MAX_NEW_TOKENS, num_beams=1)
STEPS = 20
WIDTH, PRODUCT_ROUNDS = 2048, 12
SPEEDS = [("float32", "off"), ("float32", "int8"), ("float32", "int4"), ("bfloat16", "int8"), ("bfloat16", "int4")]

Row = dict[str, Any]


def main() -> int:
    options = _parser().parse_args()
    warnings.simplefilter("ignore")
    names = choose_names(bundled_names(), options.names)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "memory": memory,
        "answers": lambda: answers(names, options.dtypes),
        "states": lambda: states(options.parity, names, options.pictures),
        "products": products,
        "speed": lambda: speed(options.rounds, options.tokens),
    }
    rows: dict[str, list[Row]] = {}
    for part in options.parts or parts:
        rows[part] = list(parts[part]())
        print_table(part, rows[part])
    totals = [row for row in rows.get("answers", ()) if row["kind"] == "all"]
    passed = all(row["ratio"] <= MOST_OF_BFLOAT16[row["quantization"]] for row in rows.get("memory", ())) and all(
        row["agree"] >= LEAST_AGREEMENT[row["quantization"]] for row in totals
    )
    print(json.dumps({"benchmark": "quantization", "cores": os.cpu_count(), "passed": passed, **rows}))
    return 0 if passed else 1


# Memory --------------------------------------------------------------------------------------------------------------


def memory() -> Iterator[Row]:
    published = {name: tuple(tensor.shape) for name, tensor in on_meta(PUBLISHED_LLM).items()}
    full = weight_bytes(published, torch.bfloat16)
    for quantization in QUANTIZED:
        taken = weight_bytes(published, torch.bfloat16, quantization)
        yield {"model": "published", "quantization": quantization, "megabytes": taken / 1e6, "ratio": taken / full}
    share = PUBLISHED_LLM.vocab_size / (PUBLISHED_LLM.dim_ff * PUBLISHED_LLM.num_layers)
    vocab_size = round(share * SIZES["mid"]["dim_ff"] * SIZES["mid"]["num_layers"])
    with tempfile.TemporaryDirectory() as folder:
        write_mid_size(Path(folder), max(vocab_size, len(tiny_vocabulary())))
        full = held_bytes(loaded_llm(Path(folder), "off"))
        for quantization in QUANTIZED:
            taken = held_bytes(loaded_llm(Path(folder), quantization))
            yield {"model": "mid-size", "quantization": quantization, "megabytes": taken / 1e6, "ratio": taken / full}


def on_meta(llm: CPMBeeConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return {f"llm.{name}": tensor for name, tensor in CPMBee(llm).state_dict().items()}


def loaded_llm(folder: Path, quantization: Quantization) -> CPMBee:
    return load_chat(folder, dtype=torch.bfloat16, quantization=quantization).model.llm


def held_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def write_mid_size(folder: Path, vocab_size: int) -> None:
    """A random Chat checkpoint in float16 with a vocabulary that is made up."""
    entries = tiny_vocabulary()
    entries += [f"filler{number}" for number in range(vocab_size - len(entries))]
    config = ChatConfig(llm=CPMBeeConfig(vocab_size, half=False, **SIZES["mid"]), vision=VISION, num_query_tokens=4)
    state = random_chat(config, "cpu", torch.float32, seed=7).half().state_dict()
    tensors = ((published_name("chat", ours), tensor) for ours, tensor in state.items())
    (folder / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
    write_folder(folder, "chat", config, tensors, untrained=True)


# Answers -------------------------------------------------------------------------------------------------------------


def answers(names: Sequence[EmojiName], dtypes: Sequence[str]) -> Iterator[Row]:
    """By kind and language, and of all questions."""
    renderer = Renderer(["twemoji"])
    drawn = drawn_names(renderer, names)
    items = named_items(renderer, drawn, "twemoji", EVALUATION_SEED, per_name=1)
    items += mixed_items(drawn, "twemoji", EVALUATION_SEED, 2 * len(drawn))

    def ask(dtype: torch.dtype, quantization: Quantization) -> list[Answered]:
        return run_benchmark(served_chat(dtype, quantization), renderer, items, GREEDY, lambda count: None)

    for dtype in (getattr(torch, name) for name in dtypes):
        plain = ask(dtype, "off")
        for quantization in QUANTIZED:
            yield from compared(plain, ask(dtype, quantization), dtype, quantization)


def compared(
    plain: Sequence[Answered], other: Sequence[Answered], dtype: torch.dtype, quantization: str
) -> Iterator[Row]:
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for one, two in zip(plain, other, strict=True):
        for key in ((one.round.kind, one.round.language), ("all", "")):
            agrees = one.answer == two.answer
            counts[key].update(n=1, agree=agrees, before=one.verdict.correct, after=two.verdict.correct)
    for (kind, language), found in sorted(counts.items(), key=lambda entry: (entry[0][0] != "all", entry[0])):
        yield {
            "dtype": str(dtype).removeprefix("torch."),
            "quantization": quantization,
            "kind": kind,
            "language": language,
            "questions": found["n"],
            "agree": found["agree"] / found["n"],
            "right_unquantized": found["before"] / found["n"],
            "right": found["after"] / found["n"],
        }


def served_chat(dtype: torch.dtype, quantization: Quantization) -> LoadedChat:
    """As the engine serves it."""
    loaded = load_chat(bundled_checkpoint("chat"), dtype=dtype, quantization=quantization, is_to_change=True)
    fold_scalings(loaded.model.llm)
    pack_language_model(loaded.model.llm)
    return loaded


# States --------------------------------------------------------------------------------------------------------------


def states(parity: Path | None, names: Sequence[EmojiName], num_pictures: int) -> Iterator[Row]:
    if parity is not None:
        fixtures = Fixtures(parity, torch.device("cpu"), torch.float32)
        checkpoint = fixtures.path("chat_checkpoint.safetensors")
        plain = forced(fixtures, load_chat(checkpoint, dtype=torch.float32))
        for quantization in QUANTIZED:
            found = forced(fixtures, load_chat(checkpoint, dtype=torch.float32, quantization=quantization))
            for name in plain:
                yield {
                    "of": f"parity: {name}",
                    "quantization": quantization,
                    "error": relative(found[name], plain[name]),
                }
    prompts = [name.en for name in names[:num_pictures]] + [name.zh for name in names[:num_pictures]]
    classifier = load_classifier(CLASSIFIER_FILE)
    wanted = [name.code for name in names[:num_pictures]] * 2
    hidden: dict[str, Tensor] = {}
    pictures: dict[str, Tensor] = {}
    for quantization in ("off", *QUANTIZED):
        loaded = load_paint(
            bundled_checkpoint("paint"), dtype=torch.float32, quantization=quantization, is_to_change=True
        )
        fold_scalings(loaded.model.llm)
        pack_language_model(loaded.model.llm, projects=False)
        hidden[quantization] = torch.cat([hidden_states(loaded, prompt) for prompt in prompts])
        painted = paint(loaded, prompts, PaintSettings(STEPS, 7.5, EVALUATION_SEED), lambda count: None)
        pictures[quantization] = torch.stack([torch.from_numpy(picture) for picture in painted]).float()
        recognised = [said == code for said, code in zip(classifier.recognise(painted), wanted, strict=True)]
        row = {"of": "paint: recognised", "quantization": quantization, "error": 1 - sum(recognised) / len(recognised)}
        yield row
        if quantization != "off":
            error = relative(hidden[quantization], hidden["off"])
            yield {"of": "paint: hidden states", "quantization": quantization, "error": error}
            difference = (pictures[quantization] - pictures["off"]).abs().mean().item() / 255
            yield {"of": "paint: pictures, mean of 255", "quantization": quantization, "error": difference}


def forced(fixtures: Fixtures, loaded: LoadedChat) -> dict[str, Tensor]:
    """Of the incremental cases: hidden states of prompts and logits of forced tokens."""
    expected = fixtures.tensors("incremental.safetensors")
    hidden, logits = [], []
    for index, case in enumerate(fixtures.json("incremental.json")):
        embeds = next(value for name, value in expected.items() if name.endswith(f"{index}.inputs_embeds"))
        decoded = decode_forced(loaded.model.llm, pack_case(fixtures, loaded, case), embeds[None].float(), case)
        hidden.append(decoded.prefill_hidden.flatten())
        logits.append(decoded.step_logits.flatten())
    return {"hidden states": torch.cat(hidden), "logits": torch.cat(logits)}


@torch.inference_mode()
def hidden_states(loaded: LoadedPaint, prompt: str) -> Tensor:
    return loaded.model.llm(pack_job(PaintJob(job_id="", prompt=prompt), loaded.tokenizer)).flatten()


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


# Speed ---------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def products() -> Iterator[Row]:
    weight = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    layers: dict[str, tuple[nn.Module, torch.dtype]] = {"packed": (PackedLinear(weight), torch.float32)}
    for quantization in QUANTIZED:
        layer = quantize(weight, quantization)
        layers[f"{quantization} float32"] = layer, torch.float32
        layers[f"{quantization} bfloat16"] = laid_out(layer, torch.bfloat16), torch.bfloat16
    for rows in (1, 3, 16, 173):
        least: dict[str, float] = {}
        for _ in range(PRODUCT_ROUNDS):
            for name, (layer, dtype) in layers.items():
                x = torch.ones(rows, WIDTH, dtype=dtype)
                started_s = time.perf_counter()
                layer(x)
                least[name] = min(least.get(name, 1e9), time.perf_counter() - started_s)
        yield {"rows": rows, **{name: taken_s * 1e3 for name, taken_s in least.items()}}


def speed(rounds: int, num_tokens: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        write_mid_size(Path(folder), PUBLISHED_LLM.vocab_size)
        engines = {case: mid_size_engine(Path(folder), *case) for case in SPEEDS}
        for count, length in ((1, num_tokens), (16, num_tokens // 2)):
            found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
            for _ in range(rounds):
                for case, engine in engines.items():
                    found[case].append(tokens_per_s(engine, count, length))
            base = found[SPEEDS[0]]
            for (dtype, quantization), rates in found.items():
                yield {
                    "dtype": dtype,
                    "quantization": quantization,
                    "requests": count,
                    "tokens_per_s": statistics.median(rates),
                    "ratio": statistics.median(a / b for a, b in zip(rates, base, strict=True)),
                }
        engines.clear()
        gc.collect()


def mid_size_engine(folder: Path, dtype: str, quantization: Quantization) -> ChatEngine:
    config = EngineConfig(
        kind="chat", checkpoint=str(folder), dtype=dtype, quantization=quantization, max_jobs=16, kv_bytes=2**29
    )
    return create_engine(config, lambda name, value: None)


def tokens_per_s(engine: ChatEngine, count: int, length: int) -> float:
    generation = ChatGeneration(max_new_tokens=length)
    started_s = time.perf_counter()
    for number in range(count):
        engine.admit(ChatJob(job_id=str(number), question=QUESTION, generation=generation))
    tokens = ended = 0
    while ended < count:
        for _, event in engine.step():
            assert not isinstance(event, Failed), event
            if isinstance(event, Generated):
                tokens += length
                ended += 1
    return tokens / (time.perf_counter() - started_s)


def print_table(name: str, rows: Sequence[Row]) -> None:
    columns = list(rows[0])
    print(f"{name}: " + ", ".join(columns))
    for row in rows:
        cells = [f"{row[column]:.4g}" if isinstance(row[column], float) else str(row[column]) for column in columns]
        print(
            "  " + "".join(f"{cell:<26}" if place == 0 else f"{cell:<18}" for place, cell in enumerate(cells)).rstrip()
        )
    print()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity", type=Path, help="folder of reference numbers")
    parser.add_argument("--names", type=int, default=120, help="emoji that are asked about")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"], help="of answers")
    parser.add_argument("--pictures", type=int, default=12, help="emoji that are painted, in two languages")
    parser.add_argument(
        "--parts", nargs="+", choices=("memory", "answers", "states", "products", "speed"), help="default: all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32, help="of an answer, where its speed is measured")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
