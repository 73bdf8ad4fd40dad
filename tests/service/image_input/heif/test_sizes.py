"""Sums over all parts of a picture."""

from service.image_input.heif.sizes import Sizes


def test_the_largest_part_and_all_together() -> None:
    assert Sizes.of([(2, 3), (10, 4), (5, 5)]) == Sizes(10, 4, 6 + 40 + 25)
    assert Sizes.of([]) == Sizes(0, 0, 0)
