"""The pictures of what lies between models: PNGs that hang on the numbers alone."""

import io

import matplotlib.image
import numpy as np
import pytest

from lamoid.evaluation.landscape import draw_between
from lamoid.evaluation.picture import draw_weights

LINE = {(1.0 - k / 4, k / 4): (k - 1) ** 2 for k in range(5)}
TRIANGLE = {(i / 4, j / 4, (4 - i - j) / 4): i * j - 2.0 * i for i in range(5) for j in range(5 - i)}


def pixels(picture: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(picture))


@pytest.mark.parametrize(("points", "names"), [(LINE, ["a$b", "an/expert_of_code" * 4]), (TRIANGLE, ["a", "b", "c"])])
def test_the_same_points_in_any_order_give_the_same_picture(points, names) -> None:
    picture = draw_between(points, names, chosen=None, axis="nats")
    assert picture == draw_between(dict(reversed(points.items())), names, chosen=None, axis="nats")
    assert pixels(picture).std() > 0.05


@pytest.mark.parametrize(("points", "names"), [(LINE, ["a", "b"]), (TRIANGLE, ["a", "b", "c"])])
def test_the_chosen_mixture_is_marked_where_it_is_known(points, names) -> None:
    plain = draw_between(points, names, chosen=None, axis="nats")
    marked = draw_between(points, names, chosen=next(iter(points)), axis="nats")
    assert (pixels(plain) != pixels(marked)).any()
    unknown = tuple([0.37] * len(names))
    assert draw_between(points, names, chosen=unknown, axis="nats") == plain


def test_a_flat_triangle_can_be_drawn_and_four_models_cannot() -> None:
    draw_between(dict.fromkeys(TRIANGLE, 1.0), ["a", "b", "c"], chosen=None, axis="nats")
    with pytest.raises(ValueError, match="4 models"):
        draw_between({(1.0, 0.0, 0.0, 0.0): 1.0}, list("abcd"), chosen=None, axis="nats")


def test_bars_are_as_long_as_weights() -> None:
    equal, uneven = (draw_weights({"a": weight, "b": 1.0 - weight}, title="Weights") for weight in (0.5, 0.9))
    blue = [((pixels(each)[..., 2] > 0.6) & (pixels(each)[..., 0] < 0.3)).sum() for each in (equal, uneven)]
    assert blue[0] > 1000
    half = pixels(equal).shape[0] // 2
    rows = [
        ((pixels(uneven)[part, :, 2] > 0.6) & (pixels(uneven)[part, :, 0] < 0.3)).sum()
        for part in (slice(0, half), slice(half, None))
    ]
    assert rows[0] > 5 * rows[1]
