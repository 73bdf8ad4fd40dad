"""The real process tree, as a user starts it: `viscpm serve` on a free port, its processes and its log."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

START_LIMIT_S = 30.0  # what a user is promised on two cores; a machine that runs other work gets more below

# Short enough for a test to see a lease run out
FAST_LEASES = {
    "VISCPM_LEASE_S": "4",
    "VISCPM_LEASE_RENEW_S": "1",
    "VISCPM_HEARTBEAT_S": "0.5",
    "VISCPM_HEARTBEAT_EXPIRY_S": "4",
}


class Tree:
    """A running `viscpm serve`. Its environment has no VISCPM_ variable but those given and an open safety gate."""

    def __init__(self, data_dir: Path, *flags: str, **variables: str) -> None:
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("VISCPM_")}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "service.process.cli",
                    "serve",
                    "--port",
                    "0",
                    "--data-dir",
                    str(data_dir),
                    *flags,
                ],
                env={**clean, "OMP_NUM_THREADS": "1", "VISCPM_SAFETY": "off", "VISCPM_ENV_FILE": "", **variables},
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
            )
        self.url = ""

    def wait_ready(self, limit_s: float = 3 * START_LIMIT_S) -> "Tree":
        """Wait for the log line that says ready; its URL becomes `url`."""
        match = wait_for(lambda: re.search(r"ready on (http://\S+):", self.log) or self._has_ended(), limit_s)
        assert isinstance(match, re.Match), self.log
        self.url = match.group(1)
        return self

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def processes(self, role: str = "") -> list[psutil.Process]:
        """The tree's children whose command line holds `role`, such as 'worker chat' or 'api'."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        found = []
        for child in children:
            with contextlib.suppress(psutil.Error):
                if role in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def metric(self, name: str, **labels: str) -> float:
        """A sample summed over the label sets that match, from one scrape of the API."""
        with self.client() as client:
            return metric(client.get("/metrics").text, name, **labels)

    def stop(self, number: signal.Signals = signal.SIGTERM, limit_s: float = 30.0) -> int:
        """Stop it and wait; kills what is left, so that a failed test leaves nothing behind."""
        family = [psutil.Process(self.process.pid), *self.processes()] if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(limit_s)
        finally:
            for one in family:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            self.process.wait()


def wait_for(condition: Any, limit_s: float = 20.0, what: str = "the condition") -> Any:
    """Poll until `condition()` is true and return what it gave."""
    deadline_s = time.monotonic() + limit_s
    while not (result := condition()):
        assert time.monotonic() < deadline_s, f"{what} did not hold within {limit_s:g} s"
        time.sleep(0.03)
    return result


def metric(page: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def large_jpeg(seed: int = 0) -> bytes:
    """2560 x 1704, as a camera's picture: gradients with coloured blocks."""
    picture = Image.linear_gradient("L").resize((2560, 1704)).convert("RGB")
    for i in range(12):
        colour = ((37 * i + 11 * seed) % 256, (91 * i) % 256, (53 * i + 70) % 256)
        picture.paste(colour, (200 * i, 130 * i, 200 * i + 180, 130 * i + 120))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90)
    return data.getvalue()


@contextlib.contextmanager
def paused(processes: list[psutil.Process]) -> Iterator[None]:
    """SIGSTOP for the block's duration."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.resume()
