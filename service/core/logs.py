"""Log lines of one form for every process: time, level, role, text."""

import logging
import sys


def configure_logging(level: str, role: str) -> None:
    """Send this process's log to stderr; `role` says which process of the tree speaks."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format=f"%(asctime)s %(levelname)-7s {role}: %(message)s",
        force=True,
    )
    for chatty in ("httpx", "httpcore", "uvicorn", "asyncio"):  # they say what we say ourselves
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # warns of what is answered with 400
