"""The safety worker's engine: every heavy screen over what waits, as one batch, in four verbs.

Covered: image screens side by side, each once for the same content; the prompt checker where one is configured. A
screen that fails fails its batch: there is no finding without all of them.
Not covered: the rules for text, which run where the text is (text/rules.py), and what follows from findings
(`policy.py`).
"""

import hashlib
import importlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from safety.image.screen import ImageScreen, Pixels
from safety.text.screen import CHECKER, PromptChecker
from safety.verdict import Finding


class Content(NamedTuple):
    """A picture or a text. `key` is the same for the same content."""

    key: str
    pixels: Pixels | None = None
    text: str = ""


class SafetyEngine:
    """Judges contents by job id. `fingerprint` changes with any screen's own: what was found under another is void."""

    def __init__(
        self, image_screens: Sequence[ImageScreen], checker: PromptChecker | None = None, max_jobs: int = 16
    ) -> None:
        self._image_screens = tuple(image_screens)
        self._checker = checker
        self._max_jobs = max_jobs
        self._admitted: dict[str, Content] = {}
        self._threads = ThreadPoolExecutor(len(self._image_screens) + 1, thread_name_prefix="screens")
        self.names = [screen.name for screen in self._image_screens] + ([CHECKER] if checker is not None else [])
        screens = [(screen.name, screen.fingerprint) for screen in self._image_screens]
        screens += [(CHECKER, checker.fingerprint)] if checker is not None else []
        known = "".join(f"{name}:{fingerprint};" for name, fingerprint in screens)
        self.fingerprint = hashlib.sha256(known.encode()).hexdigest()[:12]

    @property
    def capacity(self) -> int:
        """How many more contents `admit` takes now."""
        return self._max_jobs - len(self._admitted)

    def admit(self, job_id: str, content: Content) -> None:
        """Raises ValueError for what no screen here can judge."""
        if content.pixels is None and self._checker is None:
            raise ValueError("a text came, and this worker has no prompt checker configured")
        if content.pixels is not None:
            data, width_px, height_px = content.pixels
            if len(data) != width_px * height_px * 3 or not data:
                raise ValueError(f"{len(data)} bytes are no RGB picture of {width_px}×{height_px}")
        self._admitted[job_id] = content

    def step(self) -> list[tuple[str, list[Finding]]]:
        """Judge all that was admitted: (job id, findings of every screen). A screen's failure is raised."""
        contents = {content.key: content for content in self._admitted.values()}
        found = self._judge(list(contents.values()))
        results = [(job_id, found[content.key]) for job_id, content in self._admitted.items()]
        self._admitted.clear()
        return results

    def cancel(self, job_id: str) -> None:
        """Drop a content. Unknown ids are ignored."""
        self._admitted.pop(job_id, None)

    def _judge(self, contents: Sequence[Content]) -> dict[str, list[Finding]]:
        pictures = {content.key: content.pixels.image() for content in contents if content.pixels is not None}
        texts = {content.key: content.text for content in contents if content.pixels is None}
        judging: list[tuple[str, Sequence[str], Future[list[dict[str, float]]]]] = []
        for screen in self._image_screens if pictures else ():
            scoring = self._threads.submit(screen.scores, list(pictures.values()))
            judging.append((screen.name, list(pictures), scoring))
        if texts:
            assert self._checker is not None
            scoring = self._threads.submit(self._checker.scores, list(texts.values()))
            judging.append((CHECKER, list(texts), scoring))
        found: dict[str, list[Finding]] = {content.key: [] for content in contents}
        for name, keys, scoring in judging:
            for key, scores in zip(keys, scoring.result(), strict=True):
                found[key].append(Finding(name, scores))
        return found


def load_engine(
    image_checker: str = "",
    prompt_checker: str = "",
    unsafe_label: str = "",
    device: str = "cpu",
    max_jobs: int = 16,
) -> SafetyEngine:
    """The engine with its screens, each loaded once and tried once.

    Args:
        image_checker: folder of the release's one; empty: the two bundled ones.
        prompt_checker: folder of the release's one; empty: none.
        unsafe_label: of the prompt checker.

    Raises:
        ValueError: weights are missing or not what was expected.
    """
    for folder in (image_checker, prompt_checker):
        if folder and not Path(folder).is_dir():  # told before libraries are loaded for it
            raise ValueError(f"the checker's folder {folder} does not exist")
    # By name: which of these libraries are there is the installation's choice
    screens: list[ImageScreen]
    if image_checker:
        module = importlib.import_module("safety.image.compvis")
        screens = [module.CompVisChecker(Path(image_checker), device)]
    else:
        screens = importlib.import_module("safety.image.onnx").load_bundled_screens()
    checker: PromptChecker | None = None
    if prompt_checker:
        checker = importlib.import_module("safety.text.bert_checker").BertChecker(
            Path(prompt_checker), device, unsafe_label
        )
    engine = SafetyEngine(screens, checker, max_jobs)
    engine.admit("first", Content("first", Pixels(bytes(3 * 64 * 64), 64, 64)))  # libraries set themselves up now
    engine.step()
    return engine
