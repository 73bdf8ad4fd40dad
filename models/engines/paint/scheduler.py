"""Which jobs are painted at once: first come, first served, as far as memory goes. No tensors here."""


class Scheduler:
    """Jobs by id, each waiting or running with the bytes that its rows take.

    Args:
        budget_bytes: of all rows that run at once; a job that takes more runs alone, in parts.
        least_bytes: of the smallest usual job: what `capacity` counts in.
    """

    def __init__(self, max_jobs: int, budget_bytes: int, least_bytes: int) -> None:
        self.max_jobs = max_jobs
        self.budget_bytes = budget_bytes
        self.least_bytes = max(1, least_bytes)
        self._waiting: dict[str, int] = {}
        self._running: dict[str, int] = {}

    @property
    def running(self) -> tuple[str, ...]:
        """In the order in which they were started."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[str, ...]:
        return tuple(self._waiting)

    @property
    def capacity(self) -> int:
        """How many more jobs of the usual size would run at once with those that are here, one where none is here."""
        num_jobs = len(self._waiting) + len(self._running)
        taken = sum(self._waiting.values()) + sum(self._running.values())
        by_memory = max(0, self.budget_bytes - taken) // self.least_bytes
        return max(0, min(self.max_jobs - num_jobs, max(by_memory, 0 if num_jobs else 1)))

    def add(self, job_id: str, num_bytes: int) -> None:
        self.remove(job_id)
        self._waiting[job_id] = num_bytes

    def remove(self, job_id: str) -> None:
        """Forget a job; unknown ids are ignored."""
        self._waiting.pop(job_id, None)
        self._running.pop(job_id, None)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._waiting or job_id in self._running

    def startable(self) -> str | None:
        """The oldest waiting job, where it fits beside those that run; none overtakes it."""
        if not self._waiting:
            return None
        job_id, num_bytes = next(iter(self._waiting.items()))
        fits = num_bytes + sum(self._running.values()) <= self.budget_bytes
        return job_id if fits or not self._running else None

    def start(self, job_id: str) -> None:
        self._running[job_id] = self._waiting.pop(job_id)


def share_of_step(step_s: float, one_s: float, most: int) -> int:
    """How many pieces of other work take about as long as one denoising step: at least one, at most `most`.

    Args:
        one_s: what such a piece took lately; 0: unknown yet.
    """
    return max(1, min(most, int(step_s / one_s))) if one_s > 0 else 1
