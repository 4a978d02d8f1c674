"""Claims about charts: they say what the numbers say, and no name breaks a page."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from personalization.evaluation import charts
from personalization.evaluation.charts import Mark
from personalization.sampling.image_grid import image_grid
from personalization.training.run import LossRow

EVIL = '<img src=x onerror="alert(1)">&'


def rows(count: int, loss=lambda step: 1 / step, prior: float | None = None) -> list[LossRow]:
    return [LossRow(step, loss(step), prior, 0.1) for step in range(1, count + 1)]


def interval(*means: float) -> list[tuple[float, float, float]]:
    return [(mean, mean - 0.05, mean + 0.05) for mean in means]


CHARTS = {
    "loss": charts.loss_curve(rows(40), 100, [20, 40]),
    "loss with a class": charts.loss_curve(rows(40, prior=0.2), 100),
    "loss of no steps": charts.loss_curve([], 100),
    "fidelity": charts.fidelity_chart(
        [0.5, 1, 1.5], interval(0.6, 0.9, 1), interval(1, 0.9, 0.5), base_subject=0.4, balance=1
    ),
    "spectrum": charts.spectrum([Mark(EVIL, "lora", 2_000_000, 40.0, EVIL)]),
    "trade-off": charts.trade_off([(EVIL, "lora", (1, 0.9, 1.2), (0.7, 0.3, 0.8))]),
    "heat map": charts.heat_map([EVIL, "b"], [[1, 0.3], [0.3, 1]], EVIL),
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
    at = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', charts.spectrum(marks))]
    assert at == sorted(at)
    thousand = (at[1] - at[0]) / math.log10(2000)
    assert (at[2] - at[1]) / math.log10(1000) == pytest.approx(thousand, abs=0.02)


def test_in_the_trade_off_what_is_better_lies_further_up_and_right():
    points = [
        ("worse", "textual_inversion", (0.7, 0.6, 0.8), (0.4, -0.2, 0.9)),
        ("better", "lora", (1.0, 0.9, 1.3), (0.8, 0.7, 0.9)),
    ]
    at = re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)"', charts.trade_off(points))
    (x0, y0), (x1, y1) = [tuple(map(float, pair)) for pair in at]
    assert 0 < x0 < x1 < 100
    assert y0 > y1 > 0


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (800, "800 bytes"),
        (1000, "1 KB"),
        (1843, "1.8 KB"),
        (999_999, "1 MB"),
        (25_600_000, "26 MB"),
    ],
)
def test_sizes_are_said_as_people_say_them(size, words):
    assert charts.size_words(size) == words


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
