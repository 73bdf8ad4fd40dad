"""The batch: one call of the UNet over all rows, and no sampling's numbers depend on its neighbours."""

import random
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.engines.paint.batch import DenoisingBatch, pad_texts
from models.engines.paint.sampling import Sampling
from models.engines.paint.unet.preparation import prepare_unet
from models.jobs import SamplerName
from tests.models.engines.paint.samplings import REQUEST, WIDTH, begin, make_unet

SAMPLERS: list[SamplerName] = ["ddpm", "ddim", "dpm++", "euler"]


@pytest.fixture(scope="module", params=["as it is", "prepared"])
def unet(request: pytest.FixtureRequest) -> UNet2DConditionModel:
    made = make_unet()
    if request.param == "prepared":
        prepare_unet(made)
    return made


def draw_request(chance: random.Random) -> dict[str, Any]:
    """What a request may differ in."""
    return {
        "seed": chance.randrange(1000),
        "sampler": chance.choice(SAMPLERS),
        "steps": chance.randint(2, 7),
        "candidates": chance.randint(1, 3),
        "guidance": chance.choice([0.0, 1.0, 3.0, 7.5]),
        "size": chance.choice([(8, 8), (8, 8), (8, 16)]),
        "length": chance.randint(3, 9),
    }


@pytest.mark.whole_run  # a dozen mixes of two UNets, each beside its lone runs
@pytest.mark.parametrize("seed", range(12))
def test_a_sampling_equals_its_lone_run_whatever_is_beside_it(unet: UNet2DConditionModel, seed: int) -> None:
    """Random mixes: samplings join at different steps, some are cancelled in the middle."""
    chance = random.Random(seed)
    batch = DenoisingBatch(unet)
    left = [draw_request(chance) for _ in range(8)]
    running: list[tuple[dict[str, Any], Sampling]] = []
    finished: list[tuple[dict[str, Any], Sampling]] = []
    while left or running:
        while left and (not running or chance.random() < 0.5):
            running.append((request := left.pop(), begin(request)))
        if len(running) > 1 and chance.random() < 0.1:
            running.pop(chance.randrange(len(running)))
        assert batch.step([sampling for _, sampling in running]) == {}
        finished += [each for each in running if each[1].is_done]
        running = [each for each in running if not each[1].is_done]
    assert len(finished) >= 4
    for request, sampling in finished:
        alone = begin(request)
        while not alone.is_done:
            DenoisingBatch(unet).step([alone])
        largest = alone.latents.abs().max().item()
        assert (sampling.latents - alone.latents).abs().max().item() <= 1e-4 * largest, request


class RecordingUNet(torch.nn.Module):
    """Answers with a part of its rows, and keeps the shapes, timesteps and masks that it was called with."""

    def __init__(self, most_rows: int = 100) -> None:
        super().__init__()
        self.config = type("Config", (), {"in_channels": 4})
        self.dtype = torch.float32
        self.most_rows = most_rows
        self.calls: list[dict[str, Any]] = []

    def forward(
        self,
        rows: Tensor,
        timesteps: Tensor,
        texts: Tensor,
        return_dict: bool,
        encoder_attention_mask: Tensor | None = None,
    ) -> tuple[Tensor]:
        self.calls.append({"rows": len(rows), "times": timesteps, "texts": texts, "mask": encoder_attention_mask})
        if len(rows) > self.most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.99 GiB")
        return (rows * 0.1,)


def test_requests_of_one_size_share_one_call_each_at_its_timestep() -> None:
    unet = RecordingUNet()
    samplings = [begin(REQUEST), begin(REQUEST | {"steps": 5, "candidates": 1, "length": 6})]
    DenoisingBatch(unet).step(samplings)
    (call,) = unet.calls
    assert call["rows"] == 6
    assert call["times"].tolist() == [750, 750, 800] * 2
    assert call["texts"].shape == (6, 6, WIDTH)
    assert call["mask"].sum(1).tolist() == [4, 4, 6] * 2


def test_sizes_have_calls_of_their_own() -> None:
    unet = RecordingUNet()
    DenoisingBatch(unet).step([begin(REQUEST), begin(REQUEST | {"size": (8, 16)}), begin(REQUEST)])
    assert [call["rows"] for call in unet.calls] == [8, 4]


def test_the_same_rows_come_with_the_same_texts_tensor() -> None:
    """What attention keeps of the texts hangs on it."""
    unet, batch = RecordingUNet(), None
    batch = DenoisingBatch(unet)
    first, second = begin(REQUEST), begin(REQUEST)
    for samplings in ([first], [first], [first, second], [first, second]):
        batch.step(samplings)
    texts = [call["texts"] for call in unet.calls]
    assert texts[0] is texts[1] and texts[2] is texts[3] and texts[1] is not texts[2]


def test_out_of_memory_halves_all_rows_until_the_size_is_gone() -> None:
    unet = RecordingUNet(most_rows=3)
    batch = DenoisingBatch(unet)
    samplings = [begin(REQUEST), begin(REQUEST)]
    assert batch.step(samplings) == {}
    assert [call["rows"] for call in unet.calls] == [8, 4, 2, 2, 2, 2]
    unet.calls.clear()
    batch.step(samplings)
    assert [call["rows"] for call in unet.calls] == [2] * 4
    unet.most_rows = 100
    batch.step([])
    unet.calls.clear()
    batch.step(samplings)
    assert [call["rows"] for call in unet.calls] == [8], "later requests may fit together again"


def test_latents_that_are_not_finite_fail_their_sampling_alone() -> None:
    batch = DenoisingBatch(RecordingUNet())
    good, bad = begin(REQUEST), begin(REQUEST)
    bad.latents[1, 0, 0, 0] = float("nan")
    failures = batch.step([bad, good])
    assert list(failures) == [0] and "candidates [1] are not finite after step 1 of 4" in str(failures[0])
    assert (bad.num_steps_done, good.num_steps_done) == (0, 1)


def test_texts_of_one_length_need_no_mask() -> None:
    states, mask = pad_texts([torch.ones(2, 3, 4), torch.ones(1, 3, 4)])
    assert states.shape == (3, 3, 4) and mask is None
    states, mask = pad_texts([torch.ones(1, 3, 4), torch.ones(2, 2, 4)])
    assert states.sum((1, 2)).tolist() == [12, 8, 8] and mask is not None
    assert mask.tolist() == [[True] * 3, [True, True, False], [True, True, False]]
