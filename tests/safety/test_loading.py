"""The engine as it is configured: what is bundled is ready to judge, and a folder that is not there is named."""

import pytest

from safety.engine import Content
from safety.image.screen import Pixels
from safety.loading import ScreenFolders, load_engine


@pytest.mark.slow
def test_the_engine_in_the_box_is_ready_to_judge() -> None:
    engine = load_engine(ScreenFolders())
    engine.admit("1", Content("grey", Pixels(b"\x80" * 3 * 40 * 30, 40, 30)))
    found = []
    while not found:
        found = engine.step()
    [(job_id, findings)] = found
    assert job_id == "1" and isinstance(findings, list) and all(one.version for one in findings)
    assert [one.screen for one in findings] == ["image-safety-classifier", "open-nsfw"] == engine.names


@pytest.mark.parametrize("folder", ["image_checker", "image_classifier", "prompt_checker", "guard"])
def test_a_missing_folder_is_named(folder: str) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_engine(ScreenFolders()._replace(**{folder: "nowhere"}))
