"""A guard model whose answer is known: Qwen3's architecture in any size, with weights that look for marker words.

    python benchmarks/steered_guard.py FOLDER [--size 0.6b]

What every layer computes is of random weights, at the cost of real ones, and is left out of the sum at its end; beside
it, one attention head of the first layer looks for the markers and the feed-forward of the last one spells the answer.
So tests know what the guard will say, and benchmarks measure what a guard of that size takes. It judges nothing.

`zorkmid` and `魔` in a text make it `Safety: Unsafe`, `plugh` and `疑` controversial, `xyzzy` nonsense.
"""

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

UNSAFE_WORDS, CONTROVERSIAL_WORDS, NONSENSE_WORDS = ("zorkmid", "魔"), ("plugh", "疑"), ("xyzzy",)

# As Qwen3Guard-Gen's own frames a talk, in words of our own
CHAT_TEMPLATE = """<|im_start|>user
# Task: say whether the last message of the talk is safe.
<BEGIN CONVERSATION>

{% for message in messages %}{{ 'USER' if message['role'] == 'user' else 'ASSISTANT' }}: {{ message['content'] }}

{% endfor %}<END CONVERSATION>
Judge only the last message.
 - The first line is one of 'Safety: Safe', 'Safety: Unsafe', 'Safety: Controversial'.
 - The second line begins with 'Categories:'.<|im_end|>
<|im_start|>assistant
<think>

</think>

"""

_END = "<|im_end|>"
# What follows each token of the answer; the three ways part where a marker was seen
_FOLLOWS = {
    "\n": "Safety:",
    "Safety:": " Safe",
    " Safe": "\nCategories:",
    " Unsafe": "\nCategories:",
    " Controversial": "\nCategories:",
    "\nCategories:": " None",
    " None": _END,
    " Violent": _END,
    " mumble": " mumble",
}
# Marker words, and the tokens that they lead to in the place of another
_MARKED = (
    (UNSAFE_WORDS, (" Unsafe", " Violent")),
    (CONTROVERSIAL_WORDS, (" Controversial", " Violent")),
    (NONSENSE_WORDS, (" mumble",)),
)
_INSTEAD_OF = {" Unsafe": "Safety:", " Controversial": "Safety:", " Violent": "\nCategories:", " mumble": "Safety:"}
_LOGIT = 1000.0  # of what follows a token: more than all markers of a text together
_LESS = 0.001  # by which a marked token comes second, where its marker was not seen
_FEATURE = 120.0  # of one marker among one token; among 4,000 it still weighs more than `_LESS`


class Size(NamedTuple):
    """Of a Qwen3 network."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int


SIZES = {
    "tiny": Size(64, 2, 2, 1, 16, 64, 128),
    "0.6b": Size(1024, 28, 16, 8, 128, 3072, 151_936),
}


def write_steered_guard(folder: Path, size: Size = SIZES["tiny"], dtype: torch.dtype = torch.float32) -> Path:
    """Write configuration, tokenizer, chat template and weights. Returns the folder."""
    words = _vocabulary()
    tokenizer = _tokenizer(words)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.intermediate,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words[_END],
        pad_token_id=words["<|endoftext|>"],
    )
    network: Any = Qwen3ForCausalLM(config).eval()
    _steer(network.model, words, size)
    network.to(dtype).save_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def _vocabulary() -> dict[str, int]:
    spelled = dict.fromkeys((*_FOLLOWS, *_INSTEAD_OF))
    markers = [word for marked, _ in _MARKED for word in marked]
    plain = ["USER", "ASSISTANT", ":", " ", "Task", "Safe", "Unsafe", "Judge", "only", "first", "second"]
    words = ["<|endoftext|>", "<|im_start|>", _END, "<unk>", *spelled, *markers, *plain]
    assert len(words) + len(_MARKED) <= SIZES["tiny"].hidden  # each has a dimension of its own, and each marker
    return {word: number for number, word in enumerate(words)}


def _tokenizer(words: dict[str, int]) -> Any:
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106 - no password
    plain.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\u4e00-\u9fff]|[A-Za-z]+|\s|."), "isolated")
    plain.decoder = decoders.Fuse()
    marks: Any = {"eos_token": _END, "pad_token": "<|endoftext|>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=plain, additional_special_tokens=["<|im_start|>"], **marks)


@torch.no_grad()
def _steer(network: Any, words: dict[str, int], size: Size) -> None:
    """One dimension a word and one a marker; layers add nothing but the marker's head and the answer's spelling."""
    embedding = network.embed_tokens.weight
    embedding.zero_()
    for number in words.values():
        embedding[number, number] = 1.0
    for layer in network.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    attention = network.layers[0].self_attn
    attention.q_proj.weight.zero_()  # all tokens weigh the same
    attention.v_proj.weight.zero_()
    for feature, (marked, leads_to) in enumerate(_MARKED):
        for word in marked:
            attention.v_proj.weight[feature, words[word]] = _FEATURE / math.sqrt(size.hidden)
        attention.o_proj.weight[len(words) + feature, feature] = 1.0
        for token in leads_to:
            embedding[words[token], len(words) + feature] = 1.0  # which is the output's as well
    spelling = network.layers[-1].mlp
    spelling.gate_proj.weight.zero_()
    spelling.up_proj.weight.zero_()
    for neuron, (token, follows) in enumerate(_FOLLOWS.items()):
        for projection in (spelling.gate_proj, spelling.up_proj):
            projection.weight[neuron, words[token]] = 4 / math.sqrt(size.hidden)
        spelling.down_proj.weight[words[follows], neuron] = _LOGIT
        for marked, instead_of in _INSTEAD_OF.items():
            if instead_of == token:
                spelling.down_proj.weight[words[marked], neuron] = _LOGIT - _LESS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="0.6b")
    options = parser.parse_args()
    write_steered_guard(options.folder, SIZES[options.size])


if __name__ == "__main__":
    main()
