"""What is there when a process has settled is never looked through again; garbage made later is still found."""

import gc
import weakref

import pytest

from service.core.garbage_collection import importing, settle


class Knot:
    """Refers to itself: counting references does not free it."""

    def __init__(self) -> None:
        self.itself = self


def test_there_is_no_search_while_modules_are_imported_and_one_is_possible_again_afterwards() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such"), importing():
        assert not gc.isenabled()
        import no_such  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_garbage_of_before_is_freed_and_what_is_in_use_is_not_searched_again() -> None:
    before = weakref.ref(Knot())
    kept = Knot()
    settle()
    assert before() is None
    assert gc.get_freeze_count() > 0
    assert not any(found is kept for found in gc.get_objects())


def test_garbage_of_afterwards_is_found() -> None:
    settle()
    after = weakref.ref(Knot())
    assert after() is not None
    gc.collect()
    assert after() is None
