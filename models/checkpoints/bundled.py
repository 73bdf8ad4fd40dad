"""The bundled checkpoint: viscpm-emoji, small and trained, a part of the package (models/emoji/viscpm-emoji)."""

from pathlib import Path

from models.jobs import Model

BUNDLED_FOLDER = Path(__file__).resolve().parents[1] / "emoji" / "viscpm-emoji"


def bundled_checkpoint(kind: Model) -> Path:
    """The folder of the bundled Chat or Paint; its name is the model's in `/health/ready`."""
    return BUNDLED_FOLDER / f"viscpm-emoji-{kind}"
