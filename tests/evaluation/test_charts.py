"""Claims about charts: they say what the numbers say, and no name breaks a page."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from personalization.evaluation import charts
from personalization.evaluation.figures import Estimate, Level
from personalization.evaluation.heat_maps import heat_map, layer_map
from personalization.evaluation.spectrum import Mark, spectrum
from personalization.sampling.image_grid import image_grid
from personalization.training.run import LossRow

EVIL = '<img src=x onerror="alert(1)">&'


def rows(count: int, loss=lambda step: 1 / step, prior: float | None = None) -> list[LossRow]:
    return [LossRow(step, loss(step), prior, 0.1) for step in range(1, count + 1)]


def about(mean: float) -> Estimate:
    return Estimate(mean, mean - 0.05, mean + 0.05)


def level(strength: float, subject: float, prompt: float) -> Level:
    return Level(strength, about(subject), about(prompt), about(subject), about(prompt))


CHARTS = {
    "loss": charts.loss_curve(rows(40), 100, [20, 40]),
    "loss with a class": charts.loss_curve(rows(40, prior=0.2), 100),
    "loss of no steps": charts.loss_curve([], 100),
    "fidelity": charts.fidelity_chart(
        [level(0.5, 0.6, 1), level(1, 0.9, 0.9), level(1.5, 1, 0.5)], 0.4, 1
    ),
    "spectrum": spectrum([Mark(EVIL, "lora", 2_000_000, 40.0, EVIL)]),
    "trade-off": charts.trade_off([(EVIL, "lora", level(1, 0.7, 1))]),
    "heat map": heat_map([EVIL, "b"], [[1, 0.3], [0.3, 1]], EVIL),
    "layer map": layer_map([("down", EVIL, 0.5, 0.1), ("up", "b", -0.2, 0.9)], EVIL),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_well_formed_and_names_in_it_are_text(name):
    figure = ElementTree.fromstring(CHARTS[name])
    assert figure.tag == "figure"
    assert not figure.findall(".//img")


@pytest.mark.parametrize("name", ["loss", "fidelity", "spectrum", "trade-off"])
def test_ink_is_the_pages_own_so_that_dark_and_light_both_work(name):
    assert "currentColor" in CHARTS[name]
    assert not re.search(r"(fill|stroke)=\"(black|white|#000)", CHARTS[name])


def test_the_smoothed_loss_is_the_weighted_mean_of_what_came_before():
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    keep = 1 - 1 / 4
    for n, smoothed in enumerate(charts.smoothed(values, 4)):
        weights = [keep ** (n - i) for i in range(n + 1)]
        expected = sum(w * v for w, v in zip(weights, values[: n + 1], strict=True)) / sum(weights)
        assert smoothed == pytest.approx(expected)


def test_what_is_smoothed_already_does_not_change_as_the_run_goes_on():
    values = [math.sin(i) for i in range(50)]
    assert charts.smoothed(values, 10)[:30] == charts.smoothed(values[:30], 10)


def test_a_single_spike_does_not_flatten_the_curve():
    calm = rows(200, lambda step: 0.1 + 0.01 * (step % 3))
    spiked = [*calm[:100], LossRow(101, 50.0, None, 0.1), *calm[101:]]

    def top(chart: str) -> float:
        return max(float(t) for t in re.findall(r'text-anchor="end"[^>]*>([\d.]+)<', chart))

    assert top(charts.loss_curve(spiked, 200)) < 20 * top(charts.loss_curve(calm, 200))


def test_a_long_run_is_drawn_with_few_dots_and_each_preview_is_marked():
    chart = charts.loss_curve(rows(5000), 5000, [1000, 2000, 3000])
    assert 100 < chart.count("h0") <= charts.MAX_DOTS
    assert chart.count('<path d="M-3.5') == 3
    assert len(chart) < 120_000


def test_losses_that_are_no_numbers_are_left_out():
    chart = charts.loss_curve([LossRow(1, math.nan, None, 0.1), *rows(5)], 10)
    assert "nan" not in chart


def test_results_lie_on_the_spectrum_in_the_order_of_their_size():
    marks = [
        Mark("w", "textual_inversion", 1_500),
        Mark("l", "lora", 3_000_000),
        Mark("f", "full", 3 * 10**9),
    ]
    at = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', spectrum(marks))]
    assert at == sorted(at)
    thousand = (at[1] - at[0]) / math.log10(2000)
    assert (at[2] - at[1]) / math.log10(1000) == pytest.approx(thousand, abs=0.02)


def test_in_the_trade_off_what_is_better_lies_further_up_and_right():
    points = [
        ("worse", "textual_inversion", level(1, 0.4, 0.7)),
        ("better", "lora", level(1, 0.8, 1.0)),
    ]
    at = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)"', charts.trade_off(points))
    (x0, y0), (x1, y1) = [tuple(map(float, pair)) for pair in at]
    assert 0 < x0 < x1 < 100
    assert y0 > y1 > 0


def test_a_grid_has_a_cell_for_every_picture_where_its_labels_say():
    colours = [["red", "green", "blue"], ["black", "white", "grey"]]
    pictures = [[Image.new("RGB", (64, 64), colour) for colour in row] for row in colours]
    sheet = image_grid(pictures, ["one", "two"], ["a", "b", "c"])
    bare = image_grid(pictures)
    assert sheet.width > bare.width
    assert sheet.height > bare.height
    step = 64 + 4
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            corner = (
                sheet.width - 10 - 64 - (2 - x) * step,
                sheet.height - 10 - 64 - (1 - y) * step,
            )
            for dx, dy in ((0, 0), (63, 63)):
                assert sheet.getpixel((corner[0] + dx, corner[1] + dy)) == picture.getpixel(
                    (dx, dy)
                )
