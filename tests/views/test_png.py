"""Images in files and pages: what is written is what every reader of PNG files reads."""

import io

import numpy as np
import pytest

from unrolled.views.png import png_bytes


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 1), (3, 5, 2), (4, 2, 3), (4, 2, 4)])
def test_a_picture_is_read_as_it_was_written(shape: tuple[int, int, int]) -> None:
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        assert image.mode == ["L", "LA", "RGB", "RGBA"][shape[2] - 1]
        assert np.array_equal(np.asarray(image).reshape(shape), pixels)
