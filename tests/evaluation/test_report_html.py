"""Claims about a report's page: one file, no photo, and every name is text."""

from __future__ import annotations

import pickle
from dataclasses import replace

from personalization.evaluation import report_html
from tests.support.known import (
    MUG,
    Model,
    report_of,
)


def test_the_page_is_one_file_and_shows_no_photo(good):
    page = report_html.render(good)
    assert page.count("<img") == page.count('src="data:image/')
    assert "http://" not in page
    assert "https://" not in page
    for caption in ("best:", "worst:"):
        assert caption.removesuffix(":") in page
    assert "photo-0.png" not in page
    assert good.verdict.split(".")[0] in page


def test_names_from_outside_are_text_in_the_page():
    evil = replace(MUG, placeholder_token="<my-mug>", class_noun="<b>mug</b>")
    report = report_of(Model(description=evil), description=evil)
    assert "<b>mug" not in report_html.render(report)
    assert "&lt;my-mug&gt;" in report_html.render(report)


def test_a_report_survives_the_way_out_of_a_worker(good):
    assert report_html.render(pickle.loads(pickle.dumps(good))) == report_html.render(good)
