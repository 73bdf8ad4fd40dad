"""The choice of a decoding step's way: the kernel's only where it runs and is right."""

import importlib.util
import logging

import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.engines.chat import forward
from models.engines.chat.batch import bias_by_distance
from models.engines.chat.forward import GroupedForward, choose_forward
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.paged import self_check

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget() -> None:
    forward._has_kernel.cache_clear()


def _has_kernel() -> bool:
    return forward._has_kernel(CPU, 2, 16, torch.float32)


def test_a_processor_goes_request_by_request(loaded: LoadedChat) -> None:
    llm = loaded.model.llm
    pool = KVPool(llm.config, 4, torch.float32, CPU)
    chosen = choose_forward(llm, pool, bias_by_distance(llm.position_bias))
    assert isinstance(chosen, GroupedForward)


@pytest.mark.parametrize(("error", "is_good"), [(1e-6, True), (0.1, False), (float("nan"), False)])
def test_a_kernel_is_used_where_it_is_right(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: float, is_good: bool
) -> None:
    monkeypatch.setattr(self_check, "largest_error", lambda *arguments: error)
    assert _has_kernel() == is_good
    assert [record.levelno for record in caplog.records] == ([] if is_good else [logging.WARNING])


def test_one_that_does_not_compile_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> float:
        raise RuntimeError("no C compiler\nand more of it")

    monkeypatch.setattr(self_check, "largest_error", fail)
    assert not _has_kernel()
    message = "Triton does not run here (RuntimeError: no C compiler): attention goes request by request"
    assert caplog.messages == [message]


def test_without_triton_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "find_spec", lambda name: None if name == "triton" else importlib.util.find_spec(name))
    monkeypatch.setattr(self_check, "largest_error", lambda *arguments: 1 / 0)
    assert not _has_kernel()
