"""The bundled checkpoint as files."""

from safetensors import safe_open

from models.checkpoints.bundled import BUNDLED_FOLDER

MAX_BYTES = 25e6


def test_it_is_small_and_in_half_precision() -> None:
    files = sorted(BUNDLED_FOLDER.rglob("*.safetensors"))
    assert len(files) == 3, "Chat, Paint and the VAE"
    assert sum(file.stat().st_size for file in BUNDLED_FOLDER.rglob("*")) < MAX_BYTES
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"F16"}, file  # noqa: SIM118
