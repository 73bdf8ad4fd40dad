"""What a job may ask for; the engine's own tests send it whole jobs."""

import pytest

from models.engines.chat.checks import check_generation, check_picture
from models.jobs import ChatGeneration, JobRejected
from tests.models.engines.chat.jobs import SIDE_PX, job


def test_the_defaults_and_the_extremes_are_allowed() -> None:
    check_generation(ChatGeneration())
    check_generation(ChatGeneration(max_new_tokens=1, num_beams=1, temperature=1e-6, top_p=1.0, repetition_window=1))
    check_picture(job(), SIDE_PX)
    check_picture(job(pixels=b"", image_size_px=0), SIDE_PX)


def test_a_refusal_names_the_field_what_was_got_and_what_is_allowed() -> None:
    with pytest.raises(JobRejected, match=r"top_k is -3; it must be at least 0") as raised:
        check_generation(ChatGeneration(top_k=-3))
    assert raised.value.code == "invalid_request"
    with pytest.raises(JobRejected, match=r"3072 bytes.*this checkpoint takes 16 px in RGB, 768 bytes"):
        check_picture(job(), 16)
