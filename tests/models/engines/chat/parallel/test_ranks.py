"""The processes of other ranks: started, watched, ended."""

import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from models.engines.chat.parallel.commands import Keep, Loaded
from models.engines.chat.parallel.ranks import Ranks, RanksLost
from models.jobs import EngineConfig

pytestmark = pytest.mark.own_process


@pytest.fixture
def ranks(config: EngineConfig) -> Iterator[Ranks]:
    started = Ranks(config)
    yield started
    started.close()


def process_of(ranks: Ranks) -> psutil.Process:
    (other,) = ranks._others
    return psutil.Process(other.process.pid)


def test_a_rank_that_is_killed_is_missed_at_once(ranks: Ranks, caplog: pytest.LogCaptureFixture) -> None:
    os.kill(process_of(ranks).pid, signal.SIGKILL)
    started_s = time.monotonic()
    with pytest.raises(RanksLost, match="rank 1 on cpu was killed by SIGKILL"):
        ranks._answer(ranks._others[0], Keep)
    assert time.monotonic() - started_s < 5
    assert ranks.failure == "rank 1 on cpu was killed by SIGKILL"
    assert "the model over 2 devices is lost" in caplog.text
    with pytest.raises(RanksLost, match="SIGKILL"):
        ranks.tell(Keep())


def test_what_a_rank_could_not_load_is_told(config: EngineConfig, tmp_path: Path) -> None:
    ranks = Ranks(msgspec.structs.replace(config, checkpoint=str(tmp_path / "nowhere")))
    with pytest.raises(RanksLost, match=r"exited with 1: CheckpointError: .*nowhere: no such file"):
        ranks._answer(ranks._others[0], Keep)
    ranks.close()


def test_what_fails_in_rank_0_alone_ends_all(ranks: Ranks) -> None:
    with pytest.raises(RanksLost, match="rank 0 cannot go on beside the others: MemoryError: 5 GB"):
        with ranks.together(Keep()):
            raise MemoryError("5 GB")
    assert "MemoryError" in ranks.failure


def test_ranks_end_with_what_holds_them(config: EngineConfig, caplog: pytest.LogCaptureFixture) -> None:
    ranks = Ranks(config)
    process, folder = process_of(ranks), ranks._store_file.parent
    assert folder.is_dir()
    del ranks
    gc.collect()
    with caplog.at_level(logging.ERROR):
        process.wait(5) if process.is_running() else None
    assert not process.is_running() and not folder.exists()
    assert caplog.text == "", "it was meant to end"


def test_a_signal_to_all_leaves_the_end_to_rank_0(ranks: Ranks) -> None:
    (other,) = ranks._others
    ranks._answer(other, Loaded)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(other.process.pid, number)
    assert ranks.count_blocks() == [512]
