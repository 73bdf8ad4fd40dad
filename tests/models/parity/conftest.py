"""Small checkpoints in the published layout."""

from tests.models.published_files import (  # noqa: F401 (fixtures)
    chat_config,
    chat_tensors,
    paint_config,
    paint_file,
    paint_tensors,
    save,
)
