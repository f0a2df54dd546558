import io

import numpy as np
import pytest
from PIL import Image

from model.layout import NEWLINE, SEPARATOR, image_layout
from model.views import (
    MODES,
    ImageError,
    choose_grid,
    image_views,
    make_views,
    open_image,
    resolution_mode,
    valid_tokens,
    view_plan,
)


@pytest.mark.parametrize(
    ("mode", "size", "placeholders"),
    [
        ("tiny", (900, 500), 73),
        ("small", (10, 3000), 111),
        ("base", (1240, 1754), 273),
        ("large", (1240, 1754), 421),
        ("gundam", (1240, 1754), 903),
        ("gundam", (1754, 1240), 893),
        ("gundam", (2000, 2000), 1203),
        ("gundam", (640, 640), 273),
        ("gundam", (300, 5000), 1263),
        ("gundam_m", (1240, 1754), 2005),
        ("gundam_m", (3000, 3000), 2773),
    ],
)
def test_placeholder_counts_of_the_released_processor(mode, size, placeholders):
    assert len(view_plan(*size, MODES[mode]).layout()) == placeholders


def test_tiles_are_stitched_row_by_row_into_one_grid():
    # Two tiles beside each other, 2 x 2 tokens each, then a 1 x 1 global view.
    codes = image_layout(64, 128, (2, 1))
    assert codes.tolist() == [0, 1, 4, 5, NEWLINE, 2, 3, 6, 7, NEWLINE, 8, NEWLINE, SEPARATOR]


def test_grid_of_full_hd_with_the_papers_nine_tiles_and_with_six():
    assert choose_grid(1920, 1080, MODES["gundam"]) == (4, 2)
    six = type(MODES["gundam"])("six", 1024, 640, crop=True, max_tiles=6)
    assert choose_grid(1920, 1080, six) == (2, 1)


def test_tiles_and_global_view_hold_the_right_pixels():
    image = Image.new("RGB", (256, 128), (255, 0, 0))
    image.paste((0, 0, 255), (128, 0, 256, 128))
    views = make_views(image, MODES["nano_gundam"])
    assert views.grid == (2, 1)
    assert views.tiles is not None and views.tiles.shape == (2, 3, 128, 128)
    # Bicubic interpolation reaches two pixels over the seam, no further.
    assert (views.tiles[0, 0, :, :120] == 255).all() and (views.tiles[1, 2, :, 8:] == 255).all()
    assert (views.global_view[:, :60] == 127).all(), "padded above"
    floats = image_views(views)
    assert floats.global_view.min() >= -1 and floats.global_view.max() <= 1
    assert len(floats.in_order()) == 3


def test_modes_up_to_640_resize_and_larger_ones_pad():
    wide = Image.new("RGB", (400, 100), (10, 20, 30))
    assert (make_views(wide, MODES["tiny"]).global_view[0] == 10).all()
    padded = make_views(wide, MODES["base"]).global_view
    assert padded[:, 0, 0].tolist() == [127, 127, 127]
    assert padded[:, 512, 512].tolist() == [10, 20, 30]


@pytest.mark.parametrize("size", [(1, 1), (1, 10000), (10000, 1)])
@pytest.mark.parametrize("mode", ["tiny", "base", "gundam"])
def test_extreme_sizes_give_views(size, mode):
    plan = view_plan(*size, MODES[mode])
    views = make_views(Image.new("RGB", size, (1, 2, 3)), MODES[mode])
    assert views.global_view.shape == (3, plan.global_side, plan.global_side)


def _png(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_pictures_are_decoded_as_a_viewer_shows_them():
    transparent = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_image(_png(transparent)).getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))
    assert open_image(_png(deep)).getpixel((0, 0)) == (255, 255, 255)
    half = Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16))
    assert open_image(_png(half)).getpixel((0, 0)) == (128, 128, 128)
    palette = Image.new("P", (4, 4))
    palette.putpalette([9, 8, 7] * 256)
    assert open_image(_png(palette)).getpixel((0, 0)) == (9, 8, 7)
    cmyk = Image.new("CMYK", (4, 4), (0, 0, 0, 255))
    assert max(open_image(_png(cmyk, "JPEG")).getpixel((0, 0))) < 10
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn
    assert open_image(_png(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).size == (4, 8)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not a readable"),
        (b"GIF89a", "not a readable"),
        (_png(Image.new("RGB", (64, 64), (1, 2, 3)), "JPEG")[:-40], "not a readable"),
        (_png(Image.new("RGB", (64, 64)), "GIF"), "not a readable"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_sentence(content, sentence):
    with pytest.raises(ImageError, match=sentence):
        open_image(content)


def test_the_pixel_cap_is_read_from_the_header_and_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match="more than the cap of 4,095"):
        open_image(_png(Image.new("RGB", (64, 64))), max_pixels=4095)
    with pytest.raises(ImageError, match=r"nothing\.png' does not exist"):
        open_image(tmp_path / "nothing.png")


def test_valid_tokens_of_padded_modes():
    assert valid_tokens(595, 842, MODES["base"]) == 181  # equation 1 of the paper, A4 upright
    assert valid_tokens(595, 842, MODES["tiny"]) == 64
    assert valid_tokens(500, 500, MODES["gundam"]) == 256


def test_an_unknown_mode_lists_the_known_ones():
    with pytest.raises(ValueError, match="gundam_m"):
        resolution_mode("huge")
