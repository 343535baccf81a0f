"""Charts: well-formed whatever the names are, to scale, and readable without colours."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.plots.chart import COLOURS, Axis, Point, Series, chart
from draftproof.plots.scale import scale

SVG = "{http://www.w3.org/2000/svg}"
X = Axis("acceptance rate (%)", within=(0.0, 1.0), percent=True)
Y = Axis("accuracy (%)", within=(0.0, 1.0), percent=True)


def drawn(*series: Series, x: Axis = X, y: Axis = Y) -> ElementTree.Element:
    return ElementTree.fromstring(chart("A title", x, y, series, note="a note"))


def texts(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


def centres(picture: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    (group,) = (each for each in picture.iter(f"{SVG}g") if each.get("data-name") == name)
    return [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in group.iter(f"{SVG}circle")]


def test_axes_title_legend_and_note_are_written() -> None:
    picture = drawn(Series("draft only", (Point(1.0, 0.4),)), Series("router", (Point(0.5, 0.7),)))
    assert {"A title", "a note", X.label, Y.label, "draft only", "router"} <= set(texts(picture))


def test_points_lie_where_the_ticks_say() -> None:
    """The first series has discs, whose centres are attributes: places are compared with those of the tick labels."""
    picture = drawn(Series("one", (Point(0.2, 0.4), Point(0.8, 0.9))))
    across = {each.text: float(each.get("x", "")) for each in picture.iter(f"{SVG}text")}
    (first, second) = centres(picture, "one")
    assert first[0] == pytest.approx(across["20"], abs=0.2)
    assert second[0] == pytest.approx(across["80"], abs=0.2)
    assert first[1] > second[1]  # more is higher up, and y counts downwards


def test_an_interval_is_drawn_from_its_low_to_its_high_end() -> None:
    picture = drawn(Series("one", (Point(0.5, 0.5, 0.25, 0.75),)))
    (bar,) = (each for each in picture.iter(f"{SVG}path") if each.get("class") == "interval")
    found = re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", bar.get("d", ""))
    assert found is not None
    ((_, middle),) = centres(picture, "one")
    low, high = float(found[1]), float(found[2])
    assert low > middle > high
    assert low - middle == pytest.approx(middle - high, abs=0.2)


def test_series_differ_by_colour_and_by_form() -> None:
    picture = drawn(*(Series(f"s{i}", (Point(0.1 * i, 0.5),)) for i in range(7)))
    marks = [
        next(child for child in group if child.get("class") == "point") for group in picture.iter(f"{SVG}g")
    ]  # one a series
    x_free = [(m.tag, re.sub(r"[\d.-]+", "", m.get("d", "")), m.get("fill")) for m in marks]
    assert len(set(x_free)) == 7
    assert len(set(COLOURS)) == 7


def test_names_are_text_and_never_markup() -> None:
    hostile = "<script>alert(1)</script> & \"x\" 'y'"
    svg = chart(hostile, X, Y, [Series(hostile, (Point(0.5, 0.5, says=hostile, mark="<"),))], note=hostile)
    assert "<script" not in svg
    picture = ElementTree.fromstring(svg)
    assert hostile in texts(picture)
    (group,) = picture.iter(f"{SVG}g")
    assert group.get("data-name") == hostile


@pytest.mark.parametrize("points", [(), (Point(math.nan, 0.5),), (Point(0.5, math.inf),)])
def test_nothing_and_what_is_no_number_cannot_be_drawn(points: tuple[Point, ...]) -> None:
    with pytest.raises(ValueError, match="finite"):
        chart("t", X, Y, [Series("s", points)])


def test_shares_never_get_an_axis_beyond_0_and_100_per_cent() -> None:
    picture = drawn(Series("s", (Point(1.0, 1.0), Point(0.97, 0.99))))
    shown = [float(text) for text in texts(picture) if re.fullmatch(r"[\d.]+", text)]
    assert max(shown) == 100.0


finite = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 6))


@given(st.lists(finite, min_size=1, max_size=20))
def test_an_axis_covers_its_values_with_few_ticks_that_read_differently(values: list[float]) -> None:
    axis = scale(values)
    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low - slack <= min(values)
    assert max(values) <= axis.high + slack
    assert 2 <= len(axis.ticks) <= 9
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20))
def test_bounds_are_kept(values: list[float]) -> None:
    axis = scale(values, within=(0.0, 100.0))
    assert axis.low >= 0.0
    assert axis.high <= 100.0


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20))
def test_what_is_never_negative_gets_no_negative_ticks(values: list[float]) -> None:
    axis = scale(values, within=(0.0, math.inf))
    assert axis.low >= 0.0
    assert axis.high >= max(values) * (1 - 1e-6) - 1e-6
