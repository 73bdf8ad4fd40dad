"""Pictures changed at random."""

import numpy as np
from PIL import Image

from models.datasets.augment import OPERATIONS, augment, crop_box


def test_crops_keep_half_the_area_or_more_within_the_picture() -> None:
    rng = np.random.default_rng(0)
    for width, height in ((300, 200), (40, 400)):
        for _ in range(50):
            left, top, right, bottom = crop_box(width, height, rng)
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
    areas = [np.prod(np.subtract(*np.array(crop_box(100, 100, rng)).reshape(2, 2)[::-1])) for _ in range(200)]
    assert 4900 <= min(areas) < 6000 and 9000 < max(areas) <= 10_000


def test_each_operation_changes_a_picture_in_its_own_way() -> None:
    pixels = np.random.default_rng(1).integers(60, 200, (24, 24, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    changed = [np.asarray(operation(picture, np.random.default_rng(2))) for operation in OPERATIONS]
    assert np.array_equal(changed[0], pixels)
    assert len({array.tobytes() for array in changed}) == len(OPERATIONS)
    assert all(array.shape == (24, 24, 3) for array in changed)
    assert np.ptp(changed[1]) > 250 > np.ptp(pixels)  # autocontrast
    assert changed[3].mean() > pixels.mean()  # brightness
    assert augment(picture, 32, np.random.default_rng(3)).shape == (32, 32, 3)
