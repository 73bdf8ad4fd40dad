"""Whether what is painted by its name alone is recognised: by the chat model, and by the independent classifier."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from models.checkpoints.loading import LoadedChat, LoadedPaint
from models.datasets.examples import PixelArray
from models.emoji.names import EmojiName
from models.emoji.texts.conversation import name_answer
from models.engines.paint.decoding import decode_latents, to_bytes
from models.engines.paint.denoise import Denoiser
from models.engines.paint.painter import Painter
from models.engines.paint.prompt import pack_job, paint_tree
from models.engines.paint.samplers import make_scheduler
from models.evaluation.asking import PictureQuestions, ask
from models.evaluation.emoji.answers import judge
from models.evaluation.emoji.benchmark import TONGUES, Tongue
from models.evaluation.emoji.classifier import Classifier, resized
from models.jobs import ChatGeneration, PaintJob
from models.networks.cpm_bee.packing import pack_paint
from models.networks.cpm_bee.tokenizer import escape

BATCH_SIZE = 16  # prompts painted together
QUESTION = {"en": "What is this?", "zh": "这是什么？"}


@dataclass(frozen=True)
class PaintSettings:
    """As a job has them; the picture of a name starts from `seed` + its place among the names."""

    num_inference_steps: int
    guidance_scale: float
    seed: int


@dataclass(frozen=True)
class Painting:
    """One painted picture, and what it was taken for."""

    name: EmojiName
    language: Tongue
    pixels: PixelArray
    answer: str  # the chat model's
    code: str  # the classifier's
    by_chat: bool
    by_classifier: bool


def make_painter(loaded: LoadedPaint, steps_offset: int = 0) -> Painter:
    """The worker's painter, without a reranker."""
    return Painter(
        model=loaded.model,
        vae=loaded.vae.to(memory_format=torch.channels_last),
        scheduler_config=loaded.scheduler_config,
        steps_offset=steps_offset,
        rerankers={},
        device=next(loaded.model.parameters()).device,
    )


def paint_names(
    loaded: LoadedPaint,
    chat: LoadedChat,
    classifier: Classifier,
    names: Sequence[EmojiName],
    settings: PaintSettings,
    generation: ChatGeneration,
    on_progress: Callable[[int], object],
) -> list[Painting]:
    """Every name painted in both languages and shown to both judges.

    Args:
        on_progress: gets the number of pictures that each batch finished.
    """
    paintings = []
    for language in TONGUES:
        prompts = [getattr(name, language) for name in names]
        pictures = paint(loaded, prompts, settings, on_progress)
        side_px = chat.config.image_size_px
        conversations = [PictureQuestions(resized(picture, side_px), (QUESTION[language],)) for picture in pictures]
        answers = ask(chat, conversations, generation)
        codes = classifier.recognise(pictures)
        for name, pixels, (answer,), code in zip(names, pictures, answers, codes, strict=True):
            by_chat = judge(answer, name_answer(name, language), "name", language).correct
            paintings.append(Painting(name, language, pixels, answer, code, by_chat, code == name.code))
    return paintings


def paint(
    loaded: LoadedPaint, prompts: Sequence[str], settings: PaintSettings, on_progress: Callable[[int], object]
) -> list[PixelArray]:
    """One picture (S, S, 3) a prompt, of the checkpoint's own size, as a job with that seed has it.

    Prompts of equal length in tokens are painted together: padding would change what the UNet attends to.
    """
    painter, tokenizer = make_painter(loaded), loaded.tokenizer
    places_by_length: defaultdict[int, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        places_by_length[pack_job(PaintJob(job_id="", prompt=prompt), tokenizer).ids.shape[1]].append(place)
    pictures: dict[int, PixelArray] = {}
    for places in places_by_length.values():
        for start in range(0, len(places), BATCH_SIZE):
            batch = places[start : start + BATCH_SIZE]
            texts = pack_paint([paint_tree(escape(text)) for text in ("", *(prompts[i] for i in batch))], tokenizer)
            conditioning = painter.encode(texts)  # (1 + P, L, W)
            negative = conditioning[:1].expand(len(batch), -1, -1)
            denoiser = Denoiser(
                painter.model.unet,
                make_scheduler(painter.scheduler_config, painter.steps_offset),
                torch.cat([negative, conditioning[1:]]),  # (2P, L, W)
                num_candidates=1,
                latent_size=(painter.default_size_px // painter.latent_px,) * 2,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                generators=[torch.Generator().manual_seed(settings.seed + place) for place in batch],
            )
            while not denoiser.is_done:
                denoiser.step()
            pixels = to_bytes(decode_latents(painter.vae, denoiser.latents)).cpu().numpy()  # (P, S, S, 3)
            pictures.update(zip(batch, pixels, strict=True))
            on_progress(len(batch))
    return [pictures[place] for place in range(len(prompts))]
