"""Every name leads to files, in either hub."""

from models.checkpoints.hub.collections import COLLECTIONS, NAMES, REPOSITORIES, name_on_modelscope


def test_every_collection_names_its_files() -> None:
    assert set(COLLECTIONS) == {
        *("chat-v1.1", "chat-balance", "chat-zhplus", "paint-balance", "paint-zhplus", "sd21-base", "chinese-clip")
    }
    for wanted in COLLECTIONS.values():
        assert all(repository.count("/") == 1 and file for item in wanted for repository, file in item.places)
    assert all(repository.count("/") == 1 for repository in REPOSITORIES.values())
    assert NAMES == (*COLLECTIONS, *REPOSITORIES)


def test_names_on_modelscope() -> None:
    assert name_on_modelscope("openbmb/VisCPM-Chat") == "OpenBMB/VisCPM-Chat"
    assert name_on_modelscope("stabilityai/stable-diffusion-2-1-base") == "AI-ModelScope/stable-diffusion-2-1-base"
    assert name_on_modelscope("Qwen/Qwen3Guard-Gen-0.6B") == "Qwen/Qwen3Guard-Gen-0.6B"
