"""When Python looks for garbage: not among what stays until the process ends, the modules and the loaded model.

Such a search stops everything: an API process for 40 ms, a worker with torch and diffusers for half a second.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """No search while modules are imported, which makes next to no garbage: a tenth to a quarter of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Search once more, and never again through what is there now."""
    gc.collect()
    gc.freeze()
