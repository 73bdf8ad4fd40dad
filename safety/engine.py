"""The safety worker's engine: every heavy screen over what waits, pictures and texts each as one batch, in four verbs.

Covered: image screens side by side, each once for the same content; the text screens that are configured, each on the
texts of its languages. The two kinds do not wait for one another. A screen that fails fails its batch: there is no
finding without all of them; one that comes to no judgement on a text fails that text alone.
Not covered: the rules for text, which run where the text is (text/rules.py), and what follows from findings
(`policy.py`).
"""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from safety.image.screen import ImageScreen, Pixels
from safety.text.guards.adapter import Role
from safety.text.language import language_of
from safety.text.screen import TextClassifier, TextScreen, judges_language
from safety.verdict import Finding

_LOOK_S = 0.02  # that one kind is waited for while the other one may be asked for
_PATIENCE_S = 10.0  # then it is waited for as long as it takes, so that who watches sees that it hangs


class Content(NamedTuple):
    """A picture or a text. `key` is the same for the same content; `role` says whose text it is."""

    key: str
    pixels: Pixels | None = None
    text: str = ""
    role: Role = "user"


class Undecided(NamedTuple):
    """The screens that came to no judgement on a content."""

    screens: tuple[str, ...]


Judgement = list[Finding] | Undecided


class _Batch(NamedTuple):
    """Contents by job id that are being judged: judgements by their keys."""

    jobs: dict[str, Content]
    judging: Future[dict[str, Judgement]]
    began_s: float


class SafetyEngine:
    """Judges contents by job id. `fingerprint` changes with any screen's own: what was found under another is void.

    Attributes:
        batch_s: seconds that the batches of the last step took, by their kind: `pictures`, `texts`.
    """

    def __init__(
        self,
        image_screens: Sequence[ImageScreen],
        text_screens: Sequence[TextClassifier] = (),
        max_jobs: int = 16,
    ) -> None:
        self._image_screens = tuple(image_screens)
        self._text_screens = tuple(text_screens)
        self._texts = TextScreen(None, text_screens)
        self._max_jobs = max_jobs
        self._waiting: dict[str, Content] = {}
        self._batches: dict[str, _Batch] = {}
        self._threads = ThreadPoolExecutor(len(self._image_screens) + 2, thread_name_prefix="screens")
        self.batch_s: dict[str, float] = {}
        versions = [(screen.name, screen.fingerprint) for screen in self._image_screens]
        versions += [(screen.name, screen.fingerprint) for screen in self._text_screens]
        self.names = [name for name, _ in versions]
        known = "".join(f"{name}:{fingerprint};" for name, fingerprint in versions)
        self.fingerprint = hashlib.sha256(known.encode()).hexdigest()[:12]

    @property
    def capacity(self) -> int:
        """How many more contents `admit` takes now."""
        return self._max_jobs - len(self._waiting) - sum(len(batch.jobs) for batch in self._batches.values())

    def admit(self, job_id: str, content: Content) -> None:
        """Raises ValueError for what no screen here can judge."""
        if content.pixels is None:
            language = language_of(content.text)
            if not judges_language(self._text_screens, language):
                raise ValueError(f"a text came, and this worker has no screen configured for its language ({language})")
        else:
            data, width_px, height_px = content.pixels
            if len(data) != width_px * height_px * 3 or not data:
                raise ValueError(f"{len(data)} bytes are no RGB picture of {width_px}×{height_px}")
        self._waiting[job_id] = content

    def step(self) -> list[tuple[str, Judgement]]:
        """Begin with what waits, and say what is done: (job id, findings of every screen). A failure is raised."""
        self.batch_s = {}
        self._begin()
        if not self._batches:
            return []
        ages_s = [time.monotonic() - batch.began_s for batch in self._batches.values()]
        is_patient = len(self._batches) == 1 and ages_s[0] < _PATIENCE_S  # the other kind may be asked for meanwhile
        running = [batch.judging for batch in self._batches.values()]
        wait(running, timeout=_LOOK_S if is_patient else None, return_when=FIRST_COMPLETED)
        results: list[tuple[str, Judgement]] = []
        for kind in [kind for kind, batch in self._batches.items() if batch.judging.done()]:
            batch = self._batches.pop(kind)
            self.batch_s[kind] = time.monotonic() - batch.began_s
            found = batch.judging.result()
            results += [(job_id, found[content.key]) for job_id, content in batch.jobs.items()]
        return results

    def cancel(self, job_id: str) -> None:
        """Drop a content. Unknown ids are ignored."""
        self._waiting.pop(job_id, None)
        for batch in self._batches.values():
            batch.jobs.pop(job_id, None)

    def _begin(self) -> None:
        for kind in ("pictures", "texts"):
            jobs = {
                one: content for one, content in self._waiting.items() if (content.pixels is None) == (kind == "texts")
            }
            if not jobs or kind in self._batches:
                continue
            for job_id in jobs:
                del self._waiting[job_id]
            contents = list({content.key: content for content in jobs.values()}.values())
            judge = self._judge_texts if kind == "texts" else self._judge_pictures
            self._batches[kind] = _Batch(jobs, self._threads.submit(judge, contents), time.monotonic())

    def _judge_pictures(self, contents: Sequence[Content]) -> dict[str, Judgement]:
        pictures = [content.pixels.image() for content in contents if content.pixels is not None]
        judging = [(screen, self._threads.submit(screen.scores, pictures)) for screen in self._image_screens]
        found: list[list[Finding]] = [[] for _ in contents]
        for screen, scoring in judging:
            for own, scores in zip(found, scoring.result(), strict=True):
                own.append(Finding(screen.name, scores, screen.fingerprint))
        return {content.key: own for content, own in zip(contents, found, strict=True)}

    def _judge_texts(self, contents: Sequence[Content]) -> dict[str, Judgement]:
        judged = self._texts.judge([content.text for content in contents], [content.role for content in contents])
        return {
            content.key: Undecided(one.undecided) if one.undecided else list(one.findings)
            for content, one in zip(contents, judged, strict=True)
        }
