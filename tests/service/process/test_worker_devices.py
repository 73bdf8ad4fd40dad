"""Devices shared out among workers."""

import pytest

from service.process.worker_devices import share_devices

GPUS = ("cuda:0", "cuda:1", "cuda:2", "cuda:3")


def test_neighbours_go_to_one_worker() -> None:
    assert share_devices(GPUS, 1) == [GPUS]
    assert share_devices(GPUS, 2) == [GPUS[:2], GPUS[2:]]
    assert share_devices(GPUS, 4) == [("cuda:0",), ("cuda:1",), ("cuda:2",), ("cuda:3",)]


def test_without_devices_or_workers_there_is_nothing_to_share() -> None:
    assert share_devices((), 3) == share_devices(GPUS, 0) == []


@pytest.mark.parametrize("workers", [3, 5, 8])
def test_what_does_not_divide_is_refused(workers: int) -> None:
    with pytest.raises(ValueError, match=f"4 devices for {workers} workers, .*: {workers}, {2 * workers}, "):
        share_devices(GPUS, workers)
