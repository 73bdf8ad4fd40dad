"""The safety worker's engine with its screens, as they are configured: each loaded once and tried once.

Covered: which screens there are, by which folders are given. Their libraries are heavy and not installed everywhere, so
that each is imported by name where it is wanted.
Not covered: screens that a server runs: who asks for a verdict asks those (service/jobs).
"""

import importlib
from pathlib import Path
from typing import NamedTuple

from safety.engine import Content, SafetyEngine, Undecided
from safety.image.screen import ImageScreen, Pixels
from safety.text.guards.named import guard_adapter
from safety.text.screen import TextClassifier

_FIRST_TEXTS = {"en": "a kite over the sea", "zh": "海上的风筝", "ja": "海の上のたこ", "other": "воздушный змей"}


class ScreenFolders(NamedTuple):
    """What is configured. Empty folders: none of the kind, and without any for pictures the two bundled screens.

    Args:
        image_checker: of the release's one.
        image_classifier: of one of transformers, or an ONNX file with its configuration beside it.
        prompt_checker: of the release's one; `prompt_checker_label` is its unsafe label.
        guard: of a guard model; `guard_adapter` names its family.
        device: of the release's two and of the classifier.
    """

    image_checker: str = ""
    image_classifier: str = ""
    prompt_checker: str = ""
    prompt_checker_label: str = ""
    device: str = "cpu"
    guard: str = ""
    guard_adapter: str = "qwen3guard"
    guard_device: str = "cpu"
    guard_dtype: str = "float32"
    guard_batch_tokens: int = 4096


def load_engine(folders: ScreenFolders, max_jobs: int = 16) -> SafetyEngine:
    """The engine with its screens. Raises ValueError where weights are missing or not what was expected."""
    for folder in (folders.image_checker, folders.prompt_checker, folders.guard):
        if folder and not Path(folder).is_dir():  # told before libraries are loaded for it
            raise ValueError(f"the screen's folder {folder} does not exist")
    if folders.image_classifier and not Path(folders.image_classifier).exists():
        raise ValueError(f"the image classifier {folders.image_classifier} does not exist")
    engine = SafetyEngine(_image_screens(folders), text_screens := load_text_screens(folders), max_jobs)
    contents = [Content("picture", Pixels(bytes(3 * 64 * 64), 64, 64))]  # libraries set themselves up now
    languages = {language for screen in text_screens for language in screen.languages}
    contents += [Content(language, text=_FIRST_TEXTS[language]) for language in sorted(languages)]
    for content in contents[:max_jobs]:
        engine.admit(content.key, content)
    left = len(contents[:max_jobs])
    while left:
        judged = engine.step()
        left -= len(judged)
        for _, found in judged:
            if isinstance(found, Undecided):
                names = ", ".join(found.screens)
                raise ValueError(f"{names} came to no judgement on a harmless text: is it of this family of guards?")
    return engine


def _image_screens(folders: ScreenFolders) -> list[ImageScreen]:
    screens: list[ImageScreen] = []
    if folders.image_checker:
        module = importlib.import_module("safety.image.compvis")
        screens.append(module.CompVisChecker(Path(folders.image_checker), folders.device))
    if folders.image_classifier:
        path = Path(folders.image_classifier)
        is_onnx = path.is_file() or not any(path.glob("*.safetensors")) and any(path.glob("*.onnx"))
        module = importlib.import_module(f"safety.image.{'onnx_classifier' if is_onnx else 'classifier'}")
        screens.append(module.load_classifier(path, folders.device))
    return screens or list(importlib.import_module("safety.image.onnx").load_bundled_screens())


def load_text_screens(folders: ScreenFolders) -> list[TextClassifier]:
    """Those beside the rules. Raises ValueError where weights are missing or not what was expected."""
    screens: list[TextClassifier] = []
    if folders.prompt_checker:
        module = importlib.import_module("safety.text.bert_checker")
        screens.append(module.BertChecker(Path(folders.prompt_checker), folders.device, folders.prompt_checker_label))
    if folders.guard:
        module = importlib.import_module("safety.text.guards.local")
        screens.append(
            module.LocalGuard(
                Path(folders.guard),
                guard_adapter(folders.guard_adapter),
                folders.guard_device,
                folders.guard_dtype,
                folders.guard_batch_tokens,
            )
        )
    return screens
