"""The lines that ControlNets look at."""

import numpy as np

from dreamrelay.engines import edges
from tests.engines.pictures import noise_frame
from tests.engines.tiny_controls import shapes_frame


def test_lines_lie_where_the_edges_are() -> None:
    frame = shapes_frame(0, 128, 128)
    y, x = np.mgrid[0:128, 0:128]
    off = np.abs(np.hypot(x - 64, y - 64) - 32)
    for lines, width in ((edges.canny(frame, 100, 200), 3), (edges.scribble(frame, 0.5), 8)):
        assert lines.dtype == np.uint8
        assert lines[off > width].max() == 0
        assert lines[off < 1].mean() > 60
    broad, thin = edges.scribble(frame, 0.5), edges.canny(frame, 100, 200)
    assert (broad > 0).sum() > 2 * (thin > 0).sum()


def test_more_detail_means_more_strokes() -> None:
    y, x = np.mgrid[0:64, 0:64]
    soft = (127 + 40 * np.sin(x / 5) * np.sin(y / 5)).astype(np.uint8)
    frame = np.repeat(soft[..., None], 3, axis=2)
    drawn = [int(edges.scribble(frame, detail).astype(int).sum()) for detail in (0, 0.5, 0.8, 1)]
    assert drawn[0] == 0
    assert drawn == sorted(drawn)
    assert drawn[-1] > 0


def test_a_stroke_stays_as_it_is_when_something_else_changes() -> None:
    frame = shapes_frame(0, 128, 128)
    other = frame.copy()
    other[108:, 108:] = noise_frame(0, 20, 20)
    before, after = edges.scribble(frame, 0.5), edges.scribble(other, 0.5)
    np.testing.assert_array_equal(before[:100, :100], after[:100, :100])
    assert (before != after).any()


def test_thresholds_of_lines_in_either_order() -> None:
    frame = noise_frame(0)
    np.testing.assert_array_equal(edges.canny(frame, 200, 50), edges.canny(frame, 50, 200))


def test_a_flat_frame_has_no_lines() -> None:
    flat = np.full((40, 56, 3), 127, dtype=np.uint8)
    assert edges.canny(flat, 0, 0).shape == (40, 56)
    assert edges.scribble(flat, 1.0).max() == 0
