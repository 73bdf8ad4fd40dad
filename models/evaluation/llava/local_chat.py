"""A Chat checkpoint on this machine that answers LLaVA-bench's questions in batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models.checkpoints.loading import LoadedChat
from models.datasets.examples import PixelArray
from models.engines.chat.search.vocabulary import NonFiniteLogits
from models.evaluation.asking import PictureQuestions, ask
from models.evaluation.errors import EvaluationError
from models.evaluation.llava.questions import Reply
from models.evaluation.picture_files import read_picture
from models.jobs import ChatGeneration, JobRejected
from models.networks.cpm_bee.folding import fold_scalings


class LocalChat:
    """A loaded checkpoint, whose scalings it folds, and the settings of its search; 1 beam is greedy."""

    def __init__(self, loaded: LoadedChat, generation: ChatGeneration) -> None:
        fold_scalings(loaded.model.llm)
        self.fingerprint = loaded.fingerprint
        self._loaded = loaded
        self._generation = generation

    def reply(self, texts: Sequence[str], pictures: Sequence[Path]) -> list[Reply]:
        """One answer a question, each about its own picture.

        Raises:
            EvaluationError: a picture that cannot be read, a question too long, or weights that give NaN.
        """
        side_px = self._loaded.config.image_size_px
        conversations = [
            PictureQuestions(read_pixels(file, side_px), (text,)) for text, file in zip(texts, pictures, strict=True)
        ]
        try:
            answers = ask(self._loaded, conversations, self._generation)
        except (JobRejected, NonFiniteLogits) as error:
            raise EvaluationError(f"questions {list(texts)}: {error}") from error
        metadata = {"fingerprint": self.fingerprint, "untrained": self._loaded.untrained}
        return [Reply(answer, metadata) for (answer,) in answers]


def read_pixels(file: Path, side_px: int) -> PixelArray:
    """A picture file as the tower's square (SPEC §5): (S, S, 3) uint8, upright, RGB, bicubic.

    Raises:
        EvaluationError: not a picture.
    """
    resized = read_picture(file).resize((side_px, side_px), Image.Resampling.BICUBIC)
    return np.array(resized)
