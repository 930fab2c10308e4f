"""The report: whole, self-contained, honest about what the numbers show."""

import json
import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from rosutils import figures, report
from rosutils.results import PRINTED_AVERAGE, SETTINGS, published, validate


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
VOID = {"meta", "img", "br", "link", "hr", "input"}


def measured(offsets, seeds=(0, 1, 2), spread=0.001):
    """RoS-KD at 0.5; each other setting below it by its offset, give or take `spread` with the seed."""
    rows = [
        {"task": task, "setting": setting, "student": "resnet18", "seed": seed, "overlap": 0.4, "noise": 0.2,
         "attack": "", "eps": math.nan, "norm": "", "class": "",
         "average": PRINTED_AVERAGE[about["multilabel"]], "metric": metric,
         "value": 0.5 - offsets.get(setting, 0.0) + (spread * (seed - 1) if setting != "RoS-KD" else 0),
         "run": f"student-{setting.replace(' ', '')}-{seed}"}
        for task, about in TASKS.items() for setting in SETTINGS for seed in seeds
        for metric in ("precision", "recall", "f1")
    ]  # fmt: skip
    return validate(pd.DataFrame(rows))


OFFSETS = {"Baseline I": 0.058, "Baseline II": 0.01, "Baseline III": -0.04, "Baseline V": 0.0005}


def write(folder, **changes):
    options = {
        "profile": "demo", "watermark": "profile demo · synthetic images · not comparable with the paper",
        "results": measured(OFFSETS), "tasks": TASKS, "departures": [("epochs", "50", "8 <b>")],
        "readings": [("weights & sums", "normalised", "raw")], "command": "make reproduce PROFILE=demo",
        "provenance": {"kit": "0.1", "data": {"lesion": {"images": 800, "sizes": [1, 2]}}},
    } | changes  # fmt: skip
    return report.write_report(folder, **options)


class Page(HTMLParser):
    """Ids, links and loads of a page; every tag must be closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.titles, self.open, self.words = [], [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.loads += [given[name] for name in ("src", "srcset", "data") if name in given] + (
            [given["href"]] if tag == "link" else []
        )
        self.titles += [given["title"]] if tag == "a" and "title" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


@pytest.fixture
def picture(tmp_path):
    drawn = figures.table1_plot(measured(OFFSETS), tasks=TASKS)
    return figures.write_figure(drawn, tmp_path / "figures", "table1", "")[1]


def test_the_page_is_whole_and_needs_nothing_else(tmp_path, picture):
    text = write(tmp_path, figures=[(picture, "Table I as dots", "F1 <beside> the paper's")]).read_text(
        encoding="utf-8"
    )
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.loads) == 1 and page.loads[0].startswith("data:image/png;base64,iVBOR")
    assert not re.search(r"https?:|@import|url\(|<script", text)


def test_what_is_given_is_shown_as_text_not_as_markup(tmp_path):
    text = write(tmp_path).read_text(encoding="utf-8")
    assert "8 &lt;b&gt;" in text and "weights &amp; sums" in text and "images: 800, sizes: 1, 2" in text


def test_the_same_input_gives_the_same_bytes(tmp_path, picture):
    options = {"figures": [(picture, "a", "b")]}
    assert write(tmp_path / "a", **options).read_bytes() == write(tmp_path / "b", **options).read_bytes()


def test_each_of_our_numbers_leads_to_its_runs_and_seeds(tmp_path):
    page = Page(write(tmp_path).read_text(encoding="utf-8"))
    assert len(page.titles) == 2 * len(SETTINGS) * 3
    assert "seed 0: 0.500000 (student-RoS-KD-0); seed 1: 0.500000 (student-RoS-KD-1)" in " ".join(page.titles)
    assert {"lesion-ros-kd", "chest-baseline-iii-subset-teachers"} <= set(page.ids)
    assert "student-BaselineV-2" in " ".join(page.words)


def test_every_note_on_the_papers_contradictions_is_on_the_page(tmp_path):
    page = Page(write(tmp_path).read_text(encoding="utf-8"))
    for note in published()["contradictions"]:
        assert f"note-{note['id']}" in page.ids
        assert note["printed"] in page.words


def test_only_the_papers_own_profile_is_called_comparable(tmp_path):
    assert "not comparable with the paper" in write(tmp_path, watermark="profile demo").read_text(encoding="utf-8")
    paper = write(tmp_path, profile="paper", watermark="profile paper").read_text(encoding="utf-8")
    assert "not comparable" not in paper and "at this scale" not in paper


def test_differences_are_paired_by_seed_with_students_interval():
    rows = measured({"Baseline I": 0.058})
    found = report.differences(rows, "lesion", False).set_index("baseline").loc["Baseline I"]
    # differences 0.059, 0.058, 0.057: mean 0.058, std 0.001, t(0.975, 2) = 4.302653
    assert found["mean"] == pytest.approx(0.058) and found["n"] == 3 and found["paper"] == pytest.approx(0.058)
    assert found["high"] - found["mean"] == pytest.approx(4.302653 * 0.001 / math.sqrt(3), rel=1e-6)


def test_a_seed_that_one_side_lacks_is_left_out():
    rows = measured({"Baseline I": 0.058})
    rows = rows[~((rows["setting"] == "RoS-KD") & (rows["seed"] == 1))]
    found = report.differences(rows, "lesion", False).set_index("baseline")
    assert found.loc["Baseline I", "n"] == 2 and found.loc["Baseline I", "mean"] == pytest.approx(0.058)


def test_the_verdict_says_where_ros_kd_wins_loses_and_shows_nothing():
    text = report.verdict(measured(OFFSETS), "lesion", False)["text"]
    assert text == (
        "Over 3 seeds RoS-KD beats Baseline I and Baseline II; it is worse than Baseline III; it is not shown to beat "
        "Baseline III with subset teachers, Baseline IV and Baseline V."
    )


def test_one_seed_decides_nothing_and_says_so():
    found = report.verdict(measured(OFFSETS, seeds=[0]), "lesion", False)
    assert "One seed: no interval can be given" in found["text"] and "beats" not in found["text"]
    assert "not above Baseline III" in found["text"]
    assert {line["interval"] for line in found["lines"]} == {"one seed: no interval"}


def test_attacked_and_other_students_do_not_enter_the_verdict():
    rows = measured(OFFSETS)
    others = pd.concat([rows.assign(attack="pgd", value=0.1), rows.assign(student="resnet34", value=0.1)])
    assert report.verdict(validate(pd.concat([rows, others])), "lesion", False) == report.verdict(rows, "lesion", False)


def test_nothing_run_is_no_verdict_and_still_a_page(tmp_path):
    empty = measured(OFFSETS).iloc[:0]
    assert "Nothing to compare" in report.verdict(empty, "lesion", False)["text"]
    Page(write(tmp_path, results=empty).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("offset", "seeds", "expected"),
    [
        (0.058, (0, 1, 2), "holds"), (0.2, (0, 1, 2), "better, but not by the printed gain"),
        (-0.1, (0, 1, 2), "does not hold"), (0.0, (0, 1, 2), "cannot be told"), (0.058, (0,), "cannot be told"),
    ],
)  # fmt: skip
def test_a_claim_is_judged_by_interval_and_tolerance(offset, seeds, expected):
    claim = next(claim for claim in published()["claims"] if claim["id"] == "lesion-f1-over-i")
    rows = measured({"Baseline I": offset}, seeds)
    assert report.judge(claim, rows, TASKS, student="resnet18")["verdict"] == expected


@pytest.mark.parametrize(("offset", "expected"), [(0.05, "holds"), (0.01, "does not hold"), (0.02, "cannot be told")])
def test_a_claim_of_more_than_a_bound_is_judged_against_the_bound(offset, expected):
    claim = next(claim for claim in published()["claims"] if claim["id"] == "abstract-lesion")
    assert report.judge(claim, measured({"Baseline III": offset}), TASKS, student="resnet18")["verdict"] == expected


def test_claims_that_need_other_runs_are_not_judged():
    judged = {
        c["id"]: report.judge(c, measured(OFFSETS), TASKS, student="resnet18")["verdict"] for c in published()["claims"]
    }
    for name in (
        "lesion-resnet34",
        "auroc-mean",
        "robust-chest-pgd",
        "overlap-helps",
        "landscape-basin",
        "students-all",
    ):
        assert judged[name] == "not run"


def test_provenance_is_sorted_and_knows_no_time(tmp_path):
    path = report.write_provenance(tmp_path, {"b": {"z": 1, "a": [1, 2]}, "a": "é"})
    assert path.name == "provenance.json"
    assert path.read_text(encoding="utf-8").index('"a": "é"') < path.read_text(encoding="utf-8").index('"b"')
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é", "b": {"a": [1, 2], "z": 1}}
