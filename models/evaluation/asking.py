"""Many conversations about many pictures at once: the service's prompts, prefill and decoding, in batches.

A conversation's next question is asked with the model's own earlier answers in its history, as a user would have it. A
picture's embeddings are computed once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.checkpoints.loading import LoadedChat
from models.datasets.examples import PixelArray
from models.engines.chat.decoding import Decoding, Search
from models.engines.chat.prompt import build_prompt, pack_prompts
from models.engines.chat.search.beam_search import BeamSearch
from models.engines.chat.search.vocabulary import AnswerVocabulary, NonFiniteLogits, penalise_repetition
from models.jobs import ChatGeneration, ChatJob, Turn
from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.tokenizer import unescape
from models.networks.vision.preprocess import normalise

BATCH_SIZE = 64  # conversations decoded together


@dataclass(frozen=True)
class PictureQuestions:
    """A picture at the model's side (S, S, 3), and the questions in their order."""

    pixels: PixelArray
    questions: tuple[str, ...]


class Greedy:
    """The largest logit of each of B sentences; what Sampling does for one, for many."""

    num_beams = 1

    def __init__(self, vocabulary: AnswerVocabulary, generation: ChatGeneration, device: torch.device) -> None:
        rows = len(vocabulary.segments)
        self.answers: list[list[int]] = [[] for _ in range(rows)]
        self._generation = generation
        self._eos_id = vocabulary.eos_id
        self._mask = vocabulary.column_mask(device)
        plain = torch.arange(vocabulary.vocab_size)
        extensions = torch.tensor(vocabulary.extension_ids, dtype=torch.int64)
        extension_subs = torch.tensor(vocabulary.extension_subs, dtype=torch.int64)
        self._column_ids = torch.cat([plain, extensions]).to(device)  # (C,)
        self._column_subs = torch.cat([torch.zeros_like(plain), extension_subs]).to(device)
        self._segments = torch.tensor(vocabulary.segments, device=device)[:, None]  # (B, 1)
        self._finished = torch.zeros(rows, dtype=torch.bool, device=device)
        self._num_steps = 0
        bos = torch.full((rows, 1), vocabulary.bos_id, device=device)
        self._fed_ids = bos[:, :, None]  # (B, 1, T)
        self.next = DecodeStep(
            ids=bos, subs=torch.zeros_like(bos), positions=torch.zeros_like(bos), segments=self._segments
        )

    @property
    def is_finished(self) -> bool:
        return self._num_steps == self._generation.max_new_tokens or bool(self._finished.all())

    def advance(self, logits: Tensor) -> None:
        """Takes the logits (B, 1, C) of `next`, which it overwrites, and appends a token to each unfinished answer.

        Raises:
            NonFiniteLogits: they hold NaN or infinity.
        """
        logits = logits.float()
        finite = logits.sum().isfinite()
        self._mask.apply(logits)
        window = self._generation.repetition_window
        fed_ids = self._fed_ids if window is None else self._fed_ids[:, :, -window:]
        penalise_repetition(logits, fed_ids, self._generation.repetition_penalty)
        columns = logits.argmax(-1)  # (B, 1)
        if not finite:
            raise NonFiniteLogits(f"NaN or infinite logits at token {self._num_steps}")
        for answer, column, finished in zip(self.answers, columns[:, 0].tolist(), self._finished.tolist(), strict=True):
            if not finished:
                answer.append(column)
        self._finished |= columns[:, 0] == self._eos_id
        self._num_steps += 1
        ids = self._column_ids[columns]
        self.next = DecodeStep(
            ids=ids,
            subs=self._column_subs[columns],
            positions=torch.full_like(ids, self._num_steps),
            segments=self._segments,
        )
        self._fed_ids = torch.cat([self._fed_ids, ids[:, :, None]], dim=-1)


def ask(
    chat: LoadedChat,
    conversations: Sequence[PictureQuestions],
    generation: ChatGeneration,
    on_progress: Callable[[int], object] = lambda count: None,
) -> list[list[str]]:
    """The model's answers to all questions of all conversations, as users see them.

    Args:
        chat: folded, as the engine folds it.
        generation: `num_beams` 1 is greedy; `do_sample` is not used.
        on_progress: gets the number of conversations that each batch finished.
    """
    answers: list[list[str]] = []
    for start in range(0, len(conversations), BATCH_SIZE):
        batch = conversations[start : start + BATCH_SIZE]
        with torch.inference_mode():
            answers.extend(_ask_batch(chat, batch, generation))
        on_progress(len(batch))
    return answers


def image_embeddings(chat: LoadedChat, pictures: Sequence[PixelArray]) -> Tensor:
    """(B, S, S, 3) of the model's side -> (B, Q, D)."""
    weights = chat.model.query_tokens
    pixels = torch.stack([torch.from_numpy(picture) for picture in pictures]).to(weights.device)
    return chat.model.image_embeddings(normalise(pixels).to(weights.dtype))


def _ask_batch(
    chat: LoadedChat, conversations: Sequence[PictureQuestions], generation: ChatGeneration
) -> list[list[str]]:
    embeddings = image_embeddings(chat, [conversation.pixels for conversation in conversations])
    histories: list[list[Turn]] = [[] for _ in conversations]
    for number in range(max(len(conversation.questions) for conversation in conversations)):
        rows = [row for row, conversation in enumerate(conversations) if number < len(conversation.questions)]
        jobs = [
            ChatJob(
                job_id="",
                question=conversations[row].questions[number],
                history=histories[row],
                image_embeddings=b"here",  # says that there is a picture; its embeddings are given below
                generation=generation,
            )
            for row in rows
        ]
        for row, job, answer in zip(rows, jobs, _decode(chat, jobs, [embeddings[row] for row in rows]), strict=True):
            histories[row].append(Turn(question=job.question, answer=answer))
    return [[unescape(turn.answer) for turn in history] for history in histories]


def _decode(chat: LoadedChat, jobs: Sequence[ChatJob], embeddings: list[Tensor]) -> list[str]:
    """The jobs' answers in escaped form."""
    tokenizer, device = chat.tokenizer, chat.model.query_tokens.device
    generation = jobs[0].generation
    prompts = [build_prompt(job, tokenizer, chat.config.num_query_tokens) for job in jobs]
    batch = pack_prompts(prompts, tokenizer)
    vocabulary = AnswerVocabulary.of_batch(batch, tokenizer)
    search: Search = (Greedy if generation.num_beams == 1 else BeamSearch)(vocabulary, generation, device)
    decoding = Decoding(chat.model, batch.to(device), embeddings, search, generation.max_new_tokens)
    while not search.is_finished:
        decoding.step()
    return [
        tokenizer.decode([column for column in ids if column != tokenizer.eos_id], table)
        for ids, table in zip(search.answers, batch.decode_tables, strict=True)
    ]
