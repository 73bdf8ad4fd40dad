"""Which devices each of several workers on one machine takes."""

from collections.abc import Sequence


def share_devices(devices: Sequence[str], workers: int) -> list[tuple[str, ...]]:
    """Groups of neighbours, one for each worker, all of the same size; none without devices or workers.

    Raises:
        ValueError: so many devices do not divide; the message says how many would.
    """
    if not devices or not workers:
        return []
    size = len(devices) // workers
    if size * workers != len(devices) or not size:
        raise ValueError(
            f"{','.join(devices)}: {len(devices)} devices for {workers} workers, which take as many each: "
            f"{workers}, {2 * workers}, {3 * workers} … are allowed"
        )
    return [tuple(devices[start : start + size]) for start in range(0, len(devices), size)]
