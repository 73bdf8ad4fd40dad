"""A guard model of a local folder, run here with transformers: many texts as one batch, and as few tokens as it takes.

Covered: any causal language model that transformers knows, in the folder's own chat template. What the template puts
before a text is the same for all texts; it is computed once, when the guard is loaded. Each text takes one forward
pass of its own words and then a token at a time, until its answer is decided.
Not covered: what the answer means: the adapter's. Code that a checkpoint brings along is never run.

This module imports torch and transformers. The safety worker loads it by its dotted name; nothing imports it.
"""

import copy
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, DynamicCache

from safety.fingerprint import fingerprint, small_files
from safety.text.guards.adapter import (
    GuardAdapter,
    Role,
    Scores,
    UnreadableAnswer,
    adapter_version,
    asked_scores,
)
from safety.text.guards.windows import windows, worst

_ROLES: tuple[Role, ...] = ("user", "assistant")
_PROBES = ("first 7731", "second 9482")  # they differ from their first token on, and stand in no template


class LocalGuard:
    """A text screen (safety.text.screen.TextClassifier). Used by one thread at a time."""

    def __init__(
        self, folder: Path, adapter: GuardAdapter, device: str = "cpu", dtype: str = "float32", batch_tokens: int = 4096
    ) -> None:
        """Load configuration, tokenizer and weights from a folder; the network is never asked.

        Args:
            batch_tokens: tokens of one forward pass, those before the texts counted for each: what its memory grows
                with.

        Raises:
            ValueError: the folder is not there, or its chat template does not show the text.
        """
        if not folder.is_dir():
            raise ValueError(f"the guard's folder {folder} does not exist")
        self.name = adapter.name
        self.languages = adapter.languages
        self._adapter = adapter
        self._device = device
        self._batch_tokens = batch_tokens
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = _model_class(folder).from_pretrained(folder, local_files_only=True, dtype=getattr(torch, dtype))
        parts = chain([adapter_version(adapter).encode()], small_files(folder), _tensors(model))
        self.fingerprint = fingerprint(__file__, ("tokenizers", "torch", "transformers"), parts)
        self._model = model.to(device).eval()
        self._ends = _end_tokens(model, self._tokenizer)
        self._frames = {role: self._frame(role, folder) for role in _ROLES}
        self._prefixes = {role: self._common_prefix(role) for role in _ROLES}
        self._caches = {role: self._computed(prefix) for role, prefix in self._prefixes.items()}

    def scores(self, texts: Sequence[str], roles: Sequence[Role]) -> list[Scores | None]:
        """The scores of each text; None where the guard's answer is not of its grammar."""
        pieces = [(place, role, piece) for place, role in enumerate(roles) for piece in windows(texts[place])]
        answers = self._answers([(role, piece) for _, role, piece in pieces])
        judged: list[list[Scores] | None] = [[] for _ in texts]
        for (place, role, _), answer in zip(pieces, answers, strict=True):
            found = judged[place]
            try:
                scores = asked_scores(self._adapter, answer, role)
            except UnreadableAnswer:
                judged[place] = None
            else:
                if found is not None:
                    found.append(scores)
        return [None if found is None else worst(found) for found in judged]

    # What is asked --------------------------------------------------------------------------------------------------

    def _answers(self, asked: Sequence[tuple[Role, str]]) -> list[str]:
        """In order; the longest first, so that what shares a forward pass is of about one length."""
        prompts = self._tokens(asked)
        answers = [""] * len(asked)
        for role, cached in ((role, cached) for role in self._prefixes for cached in (True, False)):
            own = [
                place
                for place, (whose, _) in enumerate(asked)
                if whose == role and self._has_prefix(prompts[place], role) == cached
            ]
            own.sort(key=lambda place: len(prompts[place]), reverse=True)
            prefix = self._prefixes[role] if cached else []
            while own:
                size = max(1, self._batch_tokens // len(prompts[own[0]]))
                batch, own = own[:size], own[size:]
                rests = [prompts[place][len(prefix) :] for place in batch]
                for place, answer in zip(batch, self._decode(rests, role, prefix), strict=True):
                    answers[place] = answer
        return answers

    def _has_prefix(self, prompt: list[int], role: Role) -> bool:
        prefix = self._prefixes[role]
        return len(prompt) > len(prefix) and prompt[: len(prefix)] == prefix

    def _tokens(self, asked: Sequence[tuple[Role, str]]) -> list[list[int]]:
        prompts = [self._frames[role][0] + piece + self._frames[role][1] for role, piece in asked]
        tokens: list[list[int]] = self._tokenizer(prompts, add_special_tokens=False)["input_ids"]
        return tokens

    def _frame(self, role: Role, folder: Path) -> tuple[str, str]:
        """What the chat template puts before and after a text. Raises ValueError where it does not show the text.

        Templates that want a message's text in parts raise for, or show the form of, what is no such list.
        """
        for in_parts in (False, True):
            with suppress(Exception):  # a template raises what it likes, for the form that it does not take
                shown = [self._rendered(probe, role, in_parts) for probe in _PROBES]
                (before, after), other = (
                    tuple(text.rsplit(probe, 1)) for probe, text in zip(_PROBES, shown, strict=True)
                )
                if (before, after) == other and "'type'" not in shown[0]:
                    return before, after
        raise ValueError(f"the chat template in {folder} does not show the text that is to be judged")

    def _rendered(self, piece: str, role: Role, in_parts: bool) -> str:
        messages: list[Any] = list(self._adapter.messages(piece, role))
        if in_parts:
            messages = [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]
        arguments = self._adapter.template_arguments(role)
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **arguments
        )
        return text

    def _common_prefix(self, role: Role) -> list[int]:
        """What comes before every text, less the token that may grow together with the text's first."""
        first, second = self._tokens([(role, probe) for probe in _PROBES])
        same = next((place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
        return first[: max(same - 1, 0)]

    # The network ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _computed(self, prefix: list[int]) -> DynamicCache:
        """Keys and values of what comes before every text."""
        cache = DynamicCache(config=self._model.config)
        if prefix:
            self._model(
                input_ids=torch.tensor([prefix], device=self._device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return cache

    @torch.inference_mode()
    def _decode(self, rests: Sequence[list[int]], role: Role, prefix: list[int]) -> list[str]:
        """Greedy answers to prompts that go on after the same prefix."""
        num_rows, length = len(rests), max(map(len, rests))
        pad = self._ends[0]
        rows = [[pad] * (length - len(rest)) + rest for rest in rests]  # at their left: they end together
        seen = [[1] * len(prefix) + [0] * (length - len(rest)) + [1] * len(rest) for rest in rests]
        tokens = torch.tensor(rows, device=self._device)  # (B, S)
        mask = torch.tensor(seen, device=self._device)  # (B, prefix + S)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, len(prefix) :]
        cache: Any = copy.deepcopy(self._caches[role]) if prefix else DynamicCache(config=self._model.config)
        if prefix:
            cache.batch_repeat_interleave(num_rows)
        said: list[list[int]] = [[] for _ in rests]
        answers: list[str | None] = [None] * num_rows
        for _ in range(self._adapter.max_new_tokens):
            logits = self._model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits  # (B, 1, V)
            following = logits[:, -1].argmax(-1).tolist()
            for row, token in enumerate(following):
                if answers[row] is None:
                    answers[row] = self._ended(said[row], token, role)
            if all(answer is not None for answer in answers):
                break
            tokens = torch.tensor(following, device=self._device)[:, None]
            mask = torch.cat([mask, mask.new_ones(num_rows, 1)], dim=-1)
            positions = positions[:, -1:] + 1
        return [self._text(said[row]) if answer is None else answer for row, answer in enumerate(answers)]

    def _ended(self, said: list[int], token: int, role: Role) -> str | None:
        """The answer where this token ends it or decides it, None where it goes on."""
        if token in self._ends:
            return self._text(said)
        said.append(token)
        answer = self._text(said)
        return None if self._adapter.read(answer, role, False) is None else answer

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text


def _model_class(folder: Path) -> Any:
    """Guards of several modalities, such as Llama Guard 4, are no causal language models by themselves."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    is_plain = type(config) in AutoModelForCausalLM._model_mapping and not hasattr(config, "vision_config")
    return AutoModelForCausalLM if is_plain else AutoModelForImageTextToText


def _end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer."""
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = [configured] if isinstance(configured, int) else list(configured or [])
    if tokenizer.eos_token_id is not None:
        ends.append(int(tokenizer.eos_token_id))
    if not ends:
        raise ValueError("the guard's checkpoint names no token that ends an answer")
    return list(dict.fromkeys(ends))


def _tensors(model: torch.nn.Module) -> Iterable[bytes | memoryview]:
    """Name and bytes of each, on the processor: a second or two for every gigabyte."""
    for name, tensor in model.state_dict().items():
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
