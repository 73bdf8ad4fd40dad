"""What a decoding step and a denoising step must read and compute, and what share of that each part reaches here.

    python benchmarks/roofline.py [--rounds 9] [--threads 1] [--write]

A step of few rows is bound by reading each weight once, a denoising step by its arithmetic. The first tables are
computed from shapes; the others are measured on this machine's processor, the model of width 512 for a step of chat and
the checkpoint in the box for one of paint, beside what a plain read and a plain matrix product reach in the same
rounds. `--write` makes benchmarks/roofline.md of all of it. Prints the same and, last, one JSON line.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models.checkpoints.config_from_shapes import PUBLISHED_LLM
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.paint.config import SD21_BASE_UNET

PAGE = Path(__file__).with_suffix(".md")
MID_LLM = CPMBeeConfig(86_583, dim_model=512, dim_ff=1280, num_layers=12, num_heads=8, dim_head=64)
SIZES = {"10B": PUBLISHED_LLM, "mid": MID_LLM}
GPUS_BYTES_PER_S = {"A100": 2.04e12, "H100": 3.35e12, "H200": 4.8e12}
GPUS_FLOP_PER_S = {"A100": 312e12, "H100": 790e12, "H200": 790e12}  # dense, 16 bits
# Bytes of a weight in the layers, and in embedding and vocabulary projection, which are one matrix
PRECISIONS = {"float32": (4.0, 4.0), "float16": (2.0, 2.0), "int8": (1.0, 2.0), "int4": (0.516, 2.0)}
BEAMS, CONTEXT_TOKENS = 3, 663  # 150 of the prompt, 513 of the answer
TEXT_TOKENS = 64

Table = list[list[str]]


def weights(llm: CPMBeeConfig) -> dict[str, int]:
    """Parameters by part; norms and biases are too few to count."""
    inner = llm.num_heads * llm.dim_head
    return {
        "vocabulary projection": llm.vocab_size * llm.dim_model,
        "feed-forward": 3 * llm.dim_model * llm.dim_ff * llm.num_layers,
        "attention linears": 4 * llm.dim_model * inner * llm.num_layers,
    }


def weight_bytes(llm: CPMBeeConfig, precision: str) -> dict[str, float]:
    in_layers, in_vocabulary = PRECISIONS[precision]
    parts = weights(llm)
    return {name: n * (in_vocabulary if name == "vocabulary projection" else in_layers) for name, n in parts.items()}


def token_bytes(llm: CPMBeeConfig, precision: str) -> int:
    """Keys and values of one token; they are in 16 bits where weights are in fewer."""
    return 2 * llm.num_layers * llm.num_heads * llm.dim_head * (4 if precision == "float32" else 2)


def step_flop(llm: CPMBeeConfig, rows: int, context_tokens: int) -> float:
    attention = 4 * llm.num_layers * llm.num_heads * llm.dim_head * context_tokens
    return rows * (2 * sum(weights(llm).values()) + attention)


def unet_flop(unet: UNet2DConditionModel, rows: int, latent_px: int) -> float:
    """Of one call, counted over shapes alone where the UNet is on the meta device."""
    config, device = unet.config, unet.device
    latents = torch.zeros(rows, config.in_channels, latent_px, latent_px, device=device)
    texts = torch.zeros(rows, TEXT_TOKENS, config.cross_attention_dim, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(latents, torch.zeros((), device=device), encoder_hidden_states=texts)
    return float(counter.get_total_flops())


def chat_table(llm: CPMBeeConfig) -> Table:
    gpus = [f"{name}, ms" for name in GPUS_BYTES_PER_S]
    table = [
        ["weights", "GB", *(f"{part}, GB" for part in weights(llm)), "KV of 1000 tokens, GB", "a step reads, GB", *gpus]
    ]
    for precision in PRECISIONS:
        parts = weight_bytes(llm, precision)
        kv_bytes = token_bytes(llm, precision)
        # Three beams that part at once, the worst case; usually they share most of their answer.
        read = sum(parts.values()) + kv_bytes * (150 + BEAMS * (CONTEXT_TOKENS - 150))
        floors = [f"{read / rate * 1e3:.2f}" for rate in GPUS_BYTES_PER_S.values()]
        sizes = [f"{part / 1e9:.3f}" for part in (sum(parts.values()), *parts.values(), 1000 * kv_bytes, read)]
        table.append([precision, *sizes, *floors])
    return table


def paint_table() -> Table:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(SD21_BASE_UNET))
    one = unet_flop(unet, 1, 64)
    table = [["UNet calls", "TFLOP", *(f"{name}, s" for name in GPUS_FLOP_PER_S)]]
    for name, count in (("one row", 1), ("a step of four pictures with guidance", 8), ("50 of them", 400)):
        floors = [f"{one * count / rate:.4f}" for rate in GPUS_FLOP_PER_S.values()]
        table.append([name, f"{one * count / 1e12:.2f}", *floors])
    return table


# Measured ------------------------------------------------------------------------------------------------------------


def chat_parts(requests: int) -> dict[str, tuple[Callable[[], object], float]]:
    """Work of a decoding step of the mid model by part, and the bytes that it must read."""
    from benchmarks.chat import make_model
    from benchmarks.random_engines import made_up_tokenizer
    from models.engines.chat.paged.self_check import MadeUpStep
    from models.engines.chat.search.selection import RowSettings, choose, penalise
    from models.engines.packed_linear import pack_language_model
    from models.jobs import ChatGeneration

    llm = make_model(made_up_tokenizer(MID_LLM), "mid", "cpu", torch.float32).model.llm
    pack_language_model(llm)
    rows = BEAMS * requests
    hidden = torch.randn(1, rows, MID_LLM.dim_model)
    logits = torch.randn(rows, MID_LLM.vocab_size)
    columns = torch.randint(MID_LLM.vocab_size, (rows, 64))
    settings = [RowSettings(ChatGeneration(), 2 * BEAMS) for _ in range(rows)]
    mixed = torch.randn(1, MID_LLM.num_heads, rows, MID_LLM.dim_head)
    step = MadeUpStep.draw(
        MID_LLM.num_heads,
        MID_LLM.dim_head,
        torch.float32,
        torch.device("cpu"),
        seed=0,
        sizes=[(BEAMS, 170, 64)] * requests,
    )
    attend = step.grouped()
    slots = sum(request.prompt_length + request.answer.size for request in step.requests)

    def linears() -> None:
        for block in llm.blocks:
            block.attention.project(hidden, hidden)
            block.attention.merge(mixed)

    def feed_forward() -> None:
        for block in llm.blocks:
            block.feed_forward(hidden)

    def attention() -> None:
        for _ in llm.blocks:
            attend()

    def search() -> None:
        own = logits.clone()
        penalise(own, columns, settings)
        choose(own, torch.ones(rows, dtype=torch.bool), settings)

    read = weight_bytes(MID_LLM, "float32")
    return {
        "vocabulary projection": (lambda: llm.logits(hidden, None), read["vocabulary projection"]),
        "feed-forward": (feed_forward, read["feed-forward"]),
        "attention linears": (linears, read["attention linears"]),
        "attention": (attention, float(slots * token_bytes(MID_LLM, "float32"))),
        "search": (search, float(logits.nbytes)),
    }


def paint_parts() -> dict[str, tuple[Callable[[], object], float]]:
    """A call of the small checkpoint's UNet, of one picture and of eight with guidance, and the FLOP of it."""
    from models.checkpoints.bundled import bundled_checkpoint
    from models.checkpoints.loading import load_paint
    from models.engines.paint.unet.preparation import prepare_unet

    unet = load_paint(bundled_checkpoint("paint"), device=torch.device("cpu"), dtype=torch.float32).model.unet
    latent_px = int(unet.config.sample_size)
    flop = unet_flop(unet, 1, latent_px)
    prepare_unet(unet)

    def call(rows: int) -> Callable[[], object]:
        latents = torch.randn(rows, unet.config.in_channels, latent_px, latent_px)
        texts = torch.randn(rows, TEXT_TOKENS, unet.config.cross_attention_dim)
        return lambda: unet(latents, torch.tensor(500.0), encoder_hidden_states=texts)

    return {f"UNet, {pictures} with guidance": (call(2 * pictures), 2 * pictures * flop) for pictures in (1, 8)}


def measure(parts: dict[str, tuple[Callable[[], object], float]], rounds: int) -> dict[str, tuple[float, float]]:
    """Fewest seconds of each, in turns, and what it reads or computes in a second: what else runs only adds to it. One
    thread's seconds are those that it had a processor."""
    clock_s = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    taken_s: dict[str, list[float]] = {name: [] for name in parts}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for name, (work, _) in parts.items():
                started_s = clock_s()
                work()
                taken_s[name].append(clock_s() - started_s)
    fewest_s = {name: min(times[1:]) for name, times in taken_s.items()}  # the first warms up
    return {name: (fewest_s[name], amount / fewest_s[name]) for name, (_, amount) in parts.items()}


def shares(measured: dict[str, tuple[float, float]], limit: str) -> list[dict[str, Any]]:
    """Each part's time, and its share of what `limit` reaches, the first of the measured ones."""
    reached = measured[limit][1]
    return [
        {"part": name, "ms": round(seconds * 1e3, 3), "per_s": rate, "share": round(rate / reached, 3)}
        for name, (seconds, rate) in measured.items()
    ]


def _read_test() -> tuple[Callable[[], object], float]:
    data = torch.ones(2**26)  # 256 MB
    return data.sum, float(data.nbytes)


def _product_test() -> tuple[Callable[[], object], float]:
    side = 1024
    left, right = torch.randn(side, side), torch.randn(side, side)

    def product() -> Tensor:
        return left @ right

    return product, 2.0 * side**3


def measured_parts(rounds: int) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for requests in (1, 16):
        measured = measure({"a plain read": _read_test(), **chat_parts(requests)}, rounds)
        found[f"chat, {requests} x {BEAMS} beams"] = shares(measured, "a plain read")
    measured = measure({"a plain matrix product": _product_test(), **paint_parts()}, rounds)
    found["paint"] = shares(measured, "a plain matrix product")
    return found


# The page ------------------------------------------------------------------------------------------------------------


def computed_page() -> str:
    lines = ["# Rooflines", "", "Written by `python benchmarks/roofline.py --write`. Sizes in GB of 10^9 bytes.", ""]
    for name, llm in SIZES.items():
        flop = step_flop(llm, BEAMS, CONTEXT_TOKENS) / 1e9
        lines += [
            f"## A step, {name}: width {llm.dim_model}, {llm.num_layers} layers, vocabulary {llm.vocab_size:,}",
            "",
            f"One request of {BEAMS} beams at the end of {CONTEXT_TOKENS} tokens of context, 150 of them the prompt's, "
            f"which are stored once: {flop:.3g} GFLOP, and the times that reading alone takes. bfloat16 is as float16; "
            "int8 and int4 (groups of 128) keep embedding and vocabulary projection in 16 bits.",
            "",
            *markdown(chat_table(llm)),
            "",
        ]
    lines += [
        "## Painting at 512 px, published UNet",
        "",
        "Times at dense 16-bit peak.",
        "",
        *markdown(paint_table()),
        "",
    ]
    return "\n".join(lines)


def measured_page(found: dict[str, list[dict[str, Any]]]) -> str:
    cores, threads = os.cpu_count(), torch.get_num_threads()
    lines = [
        "## Measured",
        "",
        f"{cores} processor cores, threads: {threads}, float32; the fastest of rounds in which all take turns, one "
        "thread's by processor time. Chat: the model of width 512, share of the bytes a second of a plain read. Paint: "
        "the checkpoint in the box, share of the FLOP a second of a plain matrix product. A part whose data stay in "
        "the processor's cache may pass 100 %.",
    ]
    for name, rows in found.items():
        unit = 1e9
        title = "GFLOP/s" if name == "paint" else "GB/s"
        table = [[name, "ms", title, "share"]]
        table += [
            [row["part"], f"{row['ms']:.2f}", f"{row['per_s'] / unit:.1f}", f"{row['share']:.0%}"] for row in rows
        ]
        lines += ["", *markdown(table)]
    return "\n".join(lines) + "\n"


def markdown(table: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = table
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    found = measured_parts(options.rounds)
    page = computed_page() + "\n" + measured_page(found)
    if options.write:
        PAGE.write_text(page)
    print(page)
    print(
        json.dumps(
            {"benchmark": "roofline", "cores": os.cpu_count(), "threads": torch.get_num_threads(), "parts": found}
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
