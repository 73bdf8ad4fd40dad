"""What a load is refused with."""

from collections.abc import Callable

import pytest

from models.checkpoints.tensor_files import CheckpointError


def refusal(load: Callable[..., object], *arguments: object, **options: object) -> str:
    """The message, which must be one line."""
    with pytest.raises(CheckpointError) as caught:
        load(*arguments, **options)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message
