"""The checkpoint in the box: viscpm-emoji, small and trained, a part of the package (models/emoji/viscpm-emoji)."""

from pathlib import Path

from models.jobs import Model

BOX_FOLDER = Path(__file__).resolve().parents[1] / "emoji" / "viscpm-emoji"


def box_checkpoint(kind: Model) -> Path:
    """The folder of the box's Chat or Paint; its name is the model's in `/health/ready`."""
    return BOX_FOLDER / f"viscpm-emoji-{kind}"
