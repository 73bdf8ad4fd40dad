"""Chat against the reference: beam searches, a left-padded batch, two turns; weights folded as served."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.checkpoints.loading import LoadedChat, load_chat
from models.engines.chat.decoding import Decoding
from models.engines.chat.image_embeddings import from_bytes, to_bytes
from models.engines.chat.prompt import build_prompt, chat_tree, pack_prompts, turn_text
from models.engines.chat.search.beam_search import BeamSearch
from models.engines.chat.search.vocabulary import AnswerVocabulary
from models.jobs import ChatGeneration, ChatJob, Turn
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.packing import PackedBatch, pack_chat
from models.networks.vision.preprocess import normalise
from models.parity.fixtures import Fixtures
from models.parity.report import Report

CHECKPOINTS = ("chat_checkpoint.safetensors", "chat_checkpoint.pt")  # the same values; a trimmed folder has one of them
SCORE_LIMIT = 1e-4  # relative
TENSOR_LIMIT = 1e-3
FRAGILE_MARGIN = 5e-5  # candidates this close may change places with rounding


@dataclass
class Chat:
    """The folder's model and what its pictures become."""

    fixtures: Fixtures

    @cached_property
    def loaded(self) -> LoadedChat:
        name = next(name for name in CHECKPOINTS if self.fixtures.has(name))
        vocabulary, config = self.fixtures.path("vocab.txt"), self.fixtures.path("chat_config.json")
        loaded = load_chat(self.fixtures.path(name), vocabulary, self.fixtures.device, self.fixtures.dtype, config)
        # The reference's float16 runs round their rotary tables to float16.
        half = self.fixtures.dtype == torch.float16
        loaded.model.llm.config = replace(loaded.model.llm.config, half=half)
        fold_scalings(loaded.model.llm)
        return loaded

    def pixels(self, image: int) -> bytes:
        side = self.loaded.config.image_size_px
        with Image.open(self.fixtures.path(f"images/image{image}.png")) as picture:
            return picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).tobytes()

    def image_embeddings(self, image: int) -> Tensor:
        """(Q, D) of one of the folder's pictures."""
        side = self.loaded.config.image_size_px
        pixels = torch.from_numpy(np.frombuffer(self.pixels(image), np.uint8).copy()).view(1, side, side, 3)
        pixels = normalise(pixels.to(self.fixtures.device)).to(self.fixtures.dtype)
        return self.loaded.model.image_embeddings(pixels)[0]

    def pack(self, prompts: Iterable[dict[str, Any]]) -> PackedBatch:
        num_image_tokens = self.loaded.config.num_query_tokens
        trees = [chat_tree(prompt["question"], prompt["context"], num_image_tokens) for prompt in prompts]
        return pack_chat(trees, self.loaded.tokenizer)

    def search(self, batch: PackedBatch, embeddings: Sequence[Tensor], generation: ChatGeneration) -> BeamSearch:
        """The finished search over a batch of prompts."""
        vocabulary = AnswerVocabulary.of_batch(batch, self.loaded.tokenizer)
        search = BeamSearch(vocabulary, generation, self.fixtures.device)
        batch = batch.to(self.fixtures.device)
        decoding = Decoding(self.loaded.model, batch, embeddings, search, generation.max_new_tokens)
        while not search.is_finished:
            decoding.step()
        return search

    def text(self, ids: list[int], table: dict[int, str]) -> str:
        without_eos = ids[:-1] if ids[-1:] == [self.loaded.tokenizer.eos_id] else ids
        return self.loaded.tokenizer.decode(without_eos, table)


def check_beam(fixtures: Fixtures, report: Report) -> None:
    """Every set of hyperparameters, its rows searched together; in half precision the first alone."""
    with torch.inference_mode():
        chat = Chat(fixtures)
        embeddings: dict[int, Tensor] = {}
        for name, content in fixtures.json("beam.json").items():
            rows = content["rows"]
            for row in rows:
                if row["image"] not in embeddings:
                    embeddings[row["image"]] = chat.image_embeddings(row["image"])
            batch = chat.pack(rows)
            generation = generation_of(content["hyperparameters"])
            search = chat.search(batch, [embeddings[row["image"]] for row in rows], generation)
            texts = [chat.text(ids, table) for ids, table in zip(search.answers, batch.decode_tables, strict=True)]
            report_searches(f"beam {name}", search, texts, content, fixtures, report)
            if not fixtures.is_full_precision:
                return  # one set tells enough of what is not judged


def report_searches(
    name: str,
    search: BeamSearch,
    texts: list[str],
    content: dict[str, Any],
    fixtures: Fixtures,
    report: Report,
) -> None:
    """Ids, kept hypotheses, texts and calls exactly, scores by their limit; of fragile rows the best score alone."""
    rows, length_penalty = content["rows"], content["hyperparameters"]["length_penalty"]
    solid = [index for index, row in enumerate(rows) if not row["fragile"]]
    kept = [[hypothesis.ids for hypothesis in hypotheses.kept] for hypotheses in search.hypotheses]
    differing = {
        "best ids": [i for i in solid if search.answers[i] != rows[i]["best_ids"]],
        "hypotheses": [i for i in solid if kept[i] != [hypothesis["ids"] for hypothesis in rows[i]["hyps"]]],
        "text": [i for i in solid if texts[i] != rows[i]["text"]],
        "model calls": [i for i in solid if search.reference_calls(i) != rows[i]["inference_calls"]],
    }
    if not fixtures.is_full_precision:
        report.note(f"{name}: best ids equal", f"{len(solid) - len(differing['best ids'])} of {len(solid)}")
        return
    for quantity, different in differing.items():
        report_rows(f"{name}: {quantity}, {len(solid)} rows", different, report)
    best = [
        (hypotheses.best.score, row["best_score"], row["best_ids"])
        for hypotheses, row in zip(search.hypotheses, rows, strict=True)
    ]
    report_scores(f"{name}: best score, {len(rows)} rows", best, length_penalty, report)
    every = [
        (got.score, expected["score"], expected["ids"])
        for i in solid
        for got, expected in zip(search.hypotheses[i].kept, rows[i]["hyps"], strict=False)
    ]
    report_scores(f"{name}: hypotheses' scores", every, length_penalty, report)


def check_batch(fixtures: Fixtures, report: Report) -> None:
    """Two prompts decoded together: prefill, answers, and the same answers as alone."""
    with torch.inference_mode():
        chat, content = Chat(fixtures), fixtures.json("batch.json")
        prompts = [find_prompt(fixtures, index) for index in content["prompt_indices"]]
        embeddings = [chat.image_embeddings(prompt["image"]) for prompt in prompts]
        batch = chat.pack(prompts)
        if fixtures.has("batch.safetensors") and fixtures.is_full_precision:
            check_prefill(chat, batch, embeddings, fixtures.tensors("batch.safetensors"), report)
        generation = generation_of(content["hyperparameters"])
        search = chat.search(batch, embeddings, generation)
        texts = [chat.text(ids, table) for ids, table in zip(search.answers, batch.decode_tables, strict=True)]
        expected = content["results"]
        if not fixtures.is_full_precision:
            equal = sum(ids == row["best_ids"] for ids, row in zip(search.answers, expected, strict=True))
            report.note("batch: best ids equal", f"{equal} of {len(expected)}")
            return
        report.exact("batch: best ids", search.answers, [row["best_ids"] for row in expected])
        report.exact("batch: text", texts, [row["text"] for row in expected])
        scores = [
            (hypotheses.best.score, row["best_score"], row["best_ids"])
            for hypotheses, row in zip(search.hypotheses, expected, strict=True)
        ]
        report_scores("batch: best score", scores, generation.length_penalty, report)
        alone = []
        for prompt, embedded in zip(prompts, embeddings, strict=True):
            single = chat.pack([prompt])
            ids = chat.search(single, [embedded], generation).answers[0]
            alone.append(chat.text(ids, single.decode_tables[0]))
        report.exact("batch: text alone", alone, texts)


def check_prefill(
    chat: Chat, batch: PackedBatch, embeddings: Sequence[Tensor], expected: dict[str, Tensor], report: Report
) -> None:
    """Embeddings and hidden states of the prompts; padding rows are nobody's."""
    batch = batch.to(chat.fixtures.device)
    embeds = chat.loaded.model.embed_prompt(batch, embeddings)
    hidden, _ = chat.loaded.model.llm.prefill(batch, embeds, num_beams=1, max_new_tokens=1)
    real = (batch.num_segments > 0).cpu()
    report.difference("batch: inputs_embeds", embeds.cpu()[real], expected["inputs_embeds"][real], TENSOR_LIMIT)
    report.difference("batch: prefill_hidden", hidden.cpu()[real], expected["prefill_hidden"][real], TENSOR_LIMIT)


def check_two_turns(fixtures: Fixtures, report: Report) -> None:
    """The entry point's defaults; the second turn reads the image embeddings as they come from a cache."""
    if not fixtures.is_full_precision:
        return
    with torch.inference_mode():
        chat = Chat(fixtures)
        for number, content in enumerate(fixtures.json("chat_two_turn.json")["chats"]):
            stored = to_bytes(chat.image_embeddings(content["image"]))
            history: list[Turn] = []
            context = ""
            for turn in ("turn1", "turn2"):
                expected, name = content[turn], f"two turns, chat {number} {turn}"
                job = ChatJob(
                    job_id=name,
                    question=expected["question"],
                    history=list(history),
                    image_embeddings=stored,
                    raw_text=True,
                )
                answer, calls = answer_job(chat, job)
                context += turn_text(expected["question"], expected["answer"])
                history.append(Turn(question=expected["question"], answer=expected["answer"]))
                if expected["min_margin"] < FRAGILE_MARGIN:
                    report.note(f"{name}: answer", "equal" if answer == expected["answer"] else "differs")
                    continue
                report.exact(f"{name}: answer", answer, expected["answer"])
                report.exact(f"{name}: model calls", calls, expected["calls"])
                report.exact(f"{name}: context", context, expected["context"])


def answer_job(chat: Chat, job: ChatJob) -> tuple[str, int]:
    """Escaped answer to a job, and the reference's number of model calls for it."""
    config = chat.loaded.config
    prompt = build_prompt(job, chat.loaded.tokenizer, config.num_query_tokens)
    batch = pack_prompts([prompt], chat.loaded.tokenizer)
    shape = (config.num_query_tokens, config.llm.dim_model)
    embeddings = from_bytes(job.image_embeddings, shape, chat.fixtures.dtype, chat.fixtures.device)
    assert embeddings is not None
    search = chat.search(batch, [embeddings], job.generation)
    return chat.text(search.answers[0], batch.decode_tables[0]), search.reference_calls(0)


def check_half(fixtures: Fixtures, report: Report) -> None:
    """How many answers of the float16 reference come out in float16; near ties decide, so this is told, not judged."""
    if fixtures.dtype != torch.float16:
        return
    with torch.inference_mode():
        chat, expected = Chat(fixtures), fixtures.json("half.json")["beam_published_short"]
        content = fixtures.json("beam.json")["published_short"]
        generation = generation_of(content["hyperparameters"])
        prompts = [find_prompt(fixtures, row["prompt_index"]) for row in expected]
        embeddings = [chat.image_embeddings(prompt["image"]) for prompt in prompts]
        answers = chat.search(chat.pack(prompts), embeddings, generation).answers
        equal = sum(ids == row["best_ids"] for ids, row in zip(answers, expected, strict=True))
        report.note("half: beam answers equal", f"{equal} of {len(expected)}")


def find_prompt(fixtures: Fixtures, prompt_index: int) -> dict[str, Any]:
    """Image, context and question of a numbered prompt. Raises ValueError for one that beam.json does not hold."""
    for content in fixtures.json("beam.json").values():
        for row in content["rows"]:
            if row["prompt_index"] == prompt_index:
                return row
    raise ValueError(f"beam.json has no prompt {prompt_index}")


def generation_of(hyperparameters: dict[str, Any]) -> ChatGeneration:
    return ChatGeneration(
        max_new_tokens=hyperparameters["max_length"] + 2,
        num_beams=hyperparameters["beam_size"],
        temperature=hyperparameters["temperature"],
        repetition_penalty=hyperparameters["repetition_penalty"],
        repetition_window=hyperparameters.get("repetition_window"),
        length_penalty=hyperparameters["length_penalty"],
    )


def report_rows(name: str, different: list[int], report: Report) -> None:
    report.line(name, f"rows {str(different)[1:-1]}" if different else "0", "exact", not different)


def report_scores(
    name: str, scores: list[tuple[float, float, list[int]]], length_penalty: float, report: Report
) -> None:
    """Largest difference of (got, expected, expected ids), relative to the expected score.

    Where the summed log-probability behind a score is below 1, it is relative to a sum of 1: float32 carries no more.
    """
    value = 0.0
    for got, expected, ids in scores:
        normaliser = len(ids) ** length_penalty
        value = max(value, abs(got - expected) * normaliser / max(abs(expected) * normaliser, 1.0))
    report.line(name, f"{value:.3g}", f"{SCORE_LIMIT:g}", value <= SCORE_LIMIT)


CHECKS: dict[str, Callable[[Fixtures, Report], None]] = {
    "beam.json": check_beam,
    "batch.json": check_batch,
    "chat_two_turn.json": check_two_turns,
    "half.json": check_half,
}

COVERS: dict[str, tuple[str, ...]] = {
    "beam.json": ("beam.json", "images/image*.png"),
    "batch.json": ("batch.json", "batch.safetensors"),
    "chat_two_turn.json": ("chat_two_turn.json",),
    "half.json": ("half.json",),
}
