"""An engine over two processes that cannot be, or that loses one."""

import os
import signal
import time

import msgspec
import psutil
import pytest

from models.engines.chat.engine import create_engine
from models.engines.chat.parallel.engine import create_parallel_engine
from models.engines.chat.parallel.ranks import RanksLost
from models.engines.device import DeviceUnusable
from models.jobs import EngineConfig
from tests.models.engines.chat.jobs import job

pytestmark = pytest.mark.own_process


def test_what_cannot_be_shared_is_refused_before_anything_starts(config: EngineConfig) -> None:
    started = psutil.Process().children()
    for devices, error, message in (
        (("cpu",) * 3, ValueError, "3 devices cannot share this model's 4 attention heads evenly"),
        (("cuda:0", "cuda:1"), DeviceUnusable, "cuda:0"),
    ):
        with pytest.raises(error, match=message):
            create_engine(msgspec.structs.replace(config, devices=devices), lambda name, value: None)
    assert psutil.Process().children() == started


def test_a_rank_that_hangs_is_given_up(config: EngineConfig) -> None:
    engine = create_parallel_engine(config, lambda name, value: None, timeout_s=4.0)
    try:
        (other,) = engine._ranks._others
        engine.admit(job())
        engine.step()
        os.kill(other.process.pid, signal.SIGSTOP)
        started_s = time.monotonic()
        with pytest.raises(RanksLost):
            for _ in range(100):
                engine.step()
        assert time.monotonic() - started_s < 20
        assert "rank 0 cannot go on beside the others" in engine.failure
    finally:
        engine.close()
    assert other.process.returncode is not None
