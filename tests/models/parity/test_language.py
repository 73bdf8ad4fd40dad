"""The check of CPM-Bee: passes on the reference's numbers in every precision, and names the one that is off."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints.tensor_files import CheckpointError
from models.networks.cpm_bee.answer_bias import DecodeStep
from models.parity.fixtures import Fixtures
from models.parity.language import (
    CHECKS,
    LIMITS,
    LOSS_LIMIT,
    answer_tokens,
    decode_forced,
    full_forward_logits,
    images_of_prompts,
    load_half,
    load_model,
    pack_case,
)
from tests.models.parity.reference import REFERENCE, change_json, change_tensor, copy_reference, run_checks

pytestmark = pytest.mark.whole_run

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", LIMITS)
def test_the_references_numbers_pass(dtype: torch.dtype) -> None:
    report = run_checks(CHECKS, REFERENCE, dtype=dtype)
    assert report.failed == [] and len(report.passed) > 30
    with_means = {name.split(",")[0] for name in report.passed if name.endswith(", mean")}
    # The reference's own float16 is compared in float16 whatever the rest is run in
    assert "half[0] step_logits" in with_means
    assert ("forward logits" in with_means) == (dtype != torch.float32)


@pytest.mark.parametrize(
    ("file", "name", "failed"),
    [
        ("embedding.safetensors", "embedding_fp32", ["embedding"]),
        ("embedding.safetensors", "ext_table_fp32", ["embedding extension rows"]),
        ("embedding.safetensors", "proj_logits_fp32", ["embedding projection"]),
        ("embedding.safetensors", "embedding_fp16", ["embedding float16"]),
        ("embedding.safetensors", "ext_table_fp16", ["embedding float16 extension rows"]),
        ("forward.safetensors", "hidden_states", ["forward hidden_states"]),
        ("forward.safetensors", "layer2_sample0", ["forward layer2_sample0"]),
        ("forward.safetensors", "logits", ["forward logits"]),
        ("incremental.safetensors", "case0.prefill_hidden", ["incremental[0] prefill_hidden"]),
        ("incremental.safetensors", "case0.prefill_last_logits", ["incremental[0] prefill_last_logits"]),
        ("incremental.safetensors", "case0.layer0_key_cache", ["incremental[0] layer0_key_cache"]),
        ("incremental.safetensors", "case0.last_layer_value_cache", ["incremental[0] last_layer_value_cache"]),
        ("incremental.safetensors", "case0.step_hidden", ["incremental[0] step_hidden"]),
        (
            "incremental.safetensors",
            "case0.step_logits",
            ["incremental[0] step_logits", "incremental[0] step_logits, folded"],
        ),
        ("batch.safetensors", "prefill_hidden", ["batch prefill_hidden"]),
        ("half.safetensors", "case0.prefill_hidden", ["half[0] prefill_hidden", "half[0] prefill_hidden, folded"]),
        ("half.safetensors", "case0.step_logits", ["half[0] step_logits", "half[0] step_logits, folded"]),
    ],
)
def test_one_value_that_is_off_fails_its_lines(tmp_path: Path, file: str, name: str, failed: list[str]) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_tensor(folder / file, name, 5.0)
    assert run_checks(CHECKS, folder, file).failed == failed


@pytest.mark.parametrize(
    ("file", "leading", "change", "failed"),
    [
        ("forward.json", "forward.safetensors", lambda c: c.update(loss=c["loss"] * 1.001), "forward loss"),
        (
            "incremental.json",
            "incremental.safetensors",
            lambda c: c[0].update(prompt_length=92),
            "incremental[0] prompt_length",
        ),
        (
            "incremental.json",
            "incremental.safetensors",
            lambda c: c[0].update(ext_table_ids=[1]),
            "incremental[0] ext_table_ids",
        ),
        (
            "position_buckets.json",
            "position_buckets.json",
            lambda c: c["published"]["first_distance"].append(1),
            "position_buckets published first_distance",
        ),
        (
            "position_buckets.json",
            "position_buckets.json",
            lambda c: c["published"].update(positive_offset=1),
            "position_buckets published positive_offset",
        ),
    ],
)
def test_one_number_that_is_off_fails_its_line(
    tmp_path: Path, file: str, leading: str, change: Callable[[Any], object], failed: str
) -> None:
    folder = copy_reference(tmp_path / "wrong")
    change_json(folder / file, change)
    assert run_checks(CHECKS, folder, leading).failed == [failed]


def test_a_bucket_that_is_off_fails_with_its_distances(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "wrong")
    start, end = json.loads((REFERENCE / "position_buckets.json").read_text())["here"]["rel"]

    def change(content: Any) -> None:
        content["here"]["bucket"][0] += 1

    change_json(folder / "position_buckets.json", change)
    assert run_checks(CHECKS, folder, "position_buckets.json").failed == [f"position_buckets {start}..{end}"]


def test_without_what_tells_the_prompts_pictures_the_rest_is_checked(tmp_path: Path) -> None:
    folder = copy_reference(tmp_path / "less")
    (folder / "beam.json").unlink()
    report = run_checks(CHECKS, folder, "batch.safetensors")
    assert (report.failed, report.passed, report.noted) == ([], ["batch prefill_hidden"], ["batch inputs_embeds"])
    assert images_of_prompts(Fixtures(folder, CPU, torch.float32)) == {0: 0}
    (folder / "incremental.json").unlink()
    assert images_of_prompts(Fixtures(folder, CPU, torch.float32)) == {}


def test_forced_tokens_give_the_same_logits_step_by_step_and_at_once() -> None:
    fixtures = Fixtures(REFERENCE, CPU, torch.float32)
    loaded, (case,) = load_model(fixtures, torch.float32), fixtures.json("incremental.json")
    llm, batch = loaded.model.llm, pack_case(fixtures, loaded, case)
    embeds = llm.embed(batch.ids, batch.subs)
    decoded = decode_forced(llm, batch, embeds, case)
    assert decoded.step_logits.shape == (6, loaded.tokenizer.vocab_size + len(batch.extension_ids))
    assert decoded.cache.length == 6
    whole = full_forward_logits(llm, batch, embeds, case)
    torch.testing.assert_close(whole, decoded.step_logits, atol=1e-3, rtol=0)
    shifted = {**case, "forced_tokens": [[6, 0], *case["forced_tokens"][:-1]]}
    assert not torch.allclose(full_forward_logits(llm, batch, embeds, shifted), decoded.step_logits, atol=1e-3)


def test_forced_tokens_are_the_fields_of_a_step() -> None:
    tokens = answer_tokens({"forced_tokens": [[6, 0], [3, 2]], "answer_segment": 8}, CPU)
    assert {name: tensor.tolist() for name, tensor in tokens.items()} == {
        "ids": [[6, 3]],
        "subs": [[0, 2]],
        "positions": [[0, 1]],
        "segments": [[8, 8]],
    }
    DecodeStep(**tokens)


def test_the_references_float16_has_rotary_tables_in_float16() -> None:
    """They are rounded, so that words with a sub index turn by another angle."""
    llm = load_half(Fixtures(REFERENCE, CPU, torch.float32)).model.llm
    assert {parameter.dtype for parameter in llm.parameters()} == {torch.float16}
    ids, subs = torch.tensor([1, 1]), torch.tensor([0, 3])
    rounded = llm.embed(ids, subs)
    llm.config = replace(llm.config, half=False)
    exact = llm.embed(ids, subs)
    assert torch.equal(rounded[0], exact[0]) and not torch.equal(rounded[1], exact[1])


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"chat_checkpoint\.safetensors: no such file"):
        load_model(Fixtures(tmp_path, CPU, torch.float32), torch.float32)


def test_limits_widen_with_coarser_dtypes() -> None:
    assert LIMITS.keys() == LOSS_LIMIT.keys()
    for finer, coarser in ((torch.float32, torch.float16), (torch.float16, torch.bfloat16)):
        assert LIMITS[finer].hidden < LIMITS[coarser].hidden and LIMITS[finer].logits < LIMITS[coarser].logits
        assert LOSS_LIMIT[finer] < LOSS_LIMIT[coarser]
