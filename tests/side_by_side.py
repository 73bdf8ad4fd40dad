"""How `make test` and `make check-long` share the tests out among their processes.

There are more of these than of cores: half of the files mostly wait, for a lease to run out or for other processes.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# Each process that runs a test of these would start their services for itself
ONE_START = ("tests/e2e/", "tests/clients/", "tests/service/client/")
# Begun last, one of these would leave the other processes with nothing to do
LONG = (*ONE_START, "tests/service/worker/", "tests/service/redis/", "tests/service/process/", "tests/models/training/")
COMPUTING = "tests/models/"


class InTurn(LoadFileScheduling):
    """A file is run by one process, and so is a folder whose files share services.

    What computes and what waits is begun in turn, so that the cores always have something to do and never all of it.
    """

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._last_computes = False

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return next((folder for folder in ONE_START if file.startswith(folder)), file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        self._last_computes = not self._last_computes
        fitting = [scope for scope in self.workqueue if scope.startswith(COMPUTING) == self._last_computes]
        if fitting:
            chosen = next((scope for scope in fitting if scope.startswith(LONG)), fitting[0])
            self.workqueue.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)
