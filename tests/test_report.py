"""The report: the answer first, whole, self-contained, and every number with what it is made of."""

import base64
import json
import re
import subprocess
from collections import defaultdict
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFilter
from test_claims import TASKS, everything

from rosutils import paper, params
from rosutils.paper import claims, report, table1, table3
from rosutils.paper.items import Item
from rosutils.paper.published import published
from rosutils.results import select
from rosutils.settings import ROWS


VOID = {"meta", "img", "br", "link", "hr", "input"}
CHECKS = pd.DataFrame({"check": ["radius 0 is the <identity>", "noise is weaker"], "passed": [True, False]})
KEY = "teacher-resnet18-0123456789abcdef"


def made(folder, results=None, mark="profile demo · not comparable with the paper", **changes):
    """A study with made-up results, of which every run is in the store."""
    found = everything() if results is None else results

    def provenance():
        record = {"seconds": 1.5, "device": "CPU"}
        return {
            "parameters": {"seed": 1}, "versions": {"torch": "2.15"}, "recipes": {KEY: {"training": {"epochs": 8}}},
            "data": {"lesion": {"images": 800, "parts": {"train": [1, 2]}}, "chest": {"images": 640}},
            "files": {path.name: "its checksum" for path in folder.glob("*")},
            "runs": {key: {"run": f"about <{key}>"} | record for key in {*found["run"], KEY} - {""}},
        }  # fmt: skip

    def note(name, needs, files):
        assert all(path.is_file() for path in files)

    study = SimpleNamespace(
        label="demo", figures=folder, parameters=params.load("demo", **changes), about_tasks=lambda: TASKS, note=note,
        results=lambda: select(found, metric=sorted(set(found["metric"]) - {"seconds"})),
        timings=lambda: select(found, metric="seconds"), as_printed=lambda: "not comparable" not in mark,
        watermark=lambda: mark, runs=lambda name: [name], drawn=lambda name: [], provenance=provenance,
        missing=lambda runs: [] if len(found) else runs,
    )  # fmt: skip
    study.variants = defaultdict(lambda: study)
    return study


class Page(HTMLParser):
    """Ids, links and loads of a page; every tag must be closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.open, self.words = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.loads += [given[name] for name in ("src", "srcset", "data") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


# A few items, so that no training is needed.
SELF_CHECKS = Item(
    "self_checks", "Self-checks", "06_adversarial", ("table2",), lambda study: CHECKS, "Of <attacks>.", "table"
)
ITEMS = (table1.TABLE, table1.PLOT, table3.TABLE, SELF_CHECKS, claims.TABLE)


def written(folder, *args, items=ITEMS, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper, "ITEMS", items)
        return report.write_report(made(folder, *args, **changes)).read_text(encoding="utf-8")


def whole_page(folder):
    """The page with every claim judged, and two figures."""
    for item in (table1.PLOT, claims.FOREST, table1.TABLE):
        item.publish(made(folder))
    written(folder, items=(table1.TABLE, table1.PLOT, table3.TABLE, claims.TABLE))
    return folder / "report.html"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_page(tmp_path_factory.mktemp("figures")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The folder of a page without a figure."""
    folder = tmp_path_factory.mktemp("plain")
    written(folder)
    return folder


def read(folder, name="report.html"):
    return (folder / name).read_text(encoding="utf-8")


def section(text, name):
    return text.split(f'id="{name}"')[1].split("</section>")[0]


def test_the_page_is_whole_and_needs_nothing_else(whole):
    page = Page(whole)
    assert len(page.loads) == 2 and all(load.startswith("data:image/webp;base64,") for load in page.loads)
    assert not re.search(r"https?:|@import|url\(|<link", whole) and len(whole) < 2e6
    assert '<meta name="viewport" content="width=device-width' in whole and "prefers-color-scheme: dark" in whole


def test_the_answer_comes_first_a_sentence_for_each_task_and_the_claims_as_a_picture(whole):
    first = whole.split("</header>")[0]
    assert "<b>Lesion</b>: by F1 (weighted), over 3 replicates, RoS-KD beats Baseline I," in first
    assert "Of the paper&#39;s 28 claims 26 hold, 2 cannot be told." in first
    assert "(claims)" in first and first.count("<img") == 1


def test_every_link_leads_to_a_place_and_every_place_has_one_name(whole):
    page = Page(whole)
    assert len(set(page.ids)) == len(page.ids)
    files = {"provenance.json", *(f"table1.{suffix}" for suffix in ("csv", "md", "tex", "pdf")), "claims.pdf"}
    assert {link for link in page.links if link[1:] not in page.ids} == files


def test_a_table_has_the_measurements_that_its_numbers_are_the_means_of_and_no_others(whole):
    frame = table1.TABLE.make(made(None))
    rows = re.findall(r"<tr>" + r"<td>([^<]*)</td>" * 7 + r'<td><a href="#([^"]+)">', section(whole, "table1-table"))
    found = pd.DataFrame(rows, columns=["task", "setting", "student", "replicate", "variant", "metric", "value", "run"])
    found["value"] = found["value"].astype(float)
    for task in TASKS:
        means = found[(found["task"] == task) & found["metric"].str.startswith("f1")].groupby("setting")["value"].mean()
        pd.testing.assert_series_equal(
            means.reindex(ROWS), frame[task, "F1", "ours"].reindex(ROWS), check_names=False, rtol=0, atol=1e-6
        )
    assert set(found["variant"]) == {""} and set(found["student"]) == {"resnet18", ""}
    assert set(found.loc[found["setting"] == "RoS-KD", "run"]) == {f"run-RoS-KD-{i}" for i in range(3)}
    assert "about &lt;run-RoS-KD-0&gt;" in whole.split('<li id="run-RoS-KD-0">')[1].split("</li>")[0]


def test_a_number_is_within_or_outside_the_tolerance_only_beside_a_printed_one(tmp_path):
    results = everything().copy()
    for setting, value in (("Baseline I", 0.658 + 0.0149), ("Baseline II", 0.684 + 0.0151)):
        here = (results["task"] == "lesion") & (results["setting"] == setting) & (results["metric"] == "f1")
        results.loc[here & (results["variant"] == "") & (results["attack"] == ""), "value"] = value
    table = section(written(tmp_path, results), "table1-table").split("</table>")[0]
    rows = dict(re.findall(r"<tr>\s*<th[^>]*>([^<]*)</th>(.*?)</tr>", table, flags=re.DOTALL))
    assert '"good"' in rows["Baseline I"] and '"bad"' in rows["Baseline II"]
    assert not re.search('"(good|bad)"', rows["Baseline III, subset teachers"])
    assert published()["tolerances"]["table1"] == 0.015


def test_every_claim_is_on_the_page_with_its_verdict_in_words_and_its_pairs_and_so_are_the_notes(whole):
    page = Page(whole)
    for claim in published()["claims"]:
        place = whole.split(f'id="claim-{claim["id"]}"')[1].split("</details>")[0]
        assert re.search(r'class="pill \w+">(holds|cannot be told)</span>', place) and '<a href="#run-' in place
    for note in published()["contradictions"]:
        assert f"note-{note['id']}" in page.ids and note["printed"] in page.words


def test_what_is_given_is_shown_as_text_not_as_markup(plain):
    text = read(plain)
    assert "radius 0 is the &lt;identity&gt;" in text and "Of &lt;attacks&gt;." in text
    assert not re.search("<identity>|<attacks>|<run-", text)


def test_the_same_input_gives_the_same_bytes_and_provenance_stays_whole(plain, tmp_path):
    assert written(tmp_path) == read(plain)
    text = read(plain, "provenance.json")
    found = json.loads(text)
    assert found["recipes"][KEY] == {"training": {"epochs": 8}} and list(found) == sorted(found)
    assert text == read(tmp_path, "provenance.json")


def test_the_commit_of_the_code_is_named_where_git_is_there_and_that_it_was_changed_since(monkeypatch, tmp_path):
    """Wherever it is asked: notebooks run in a folder of their own."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    assert report.commit() == ""
    for folder in ("rosutils", "notebooks"):
        (tmp_path / folder).mkdir()
    code = tmp_path / "rosutils" / "losses.py"
    code.write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)
    head = report.commit()
    assert re.fullmatch("[0-9a-f]{40}", head)
    code.write_text("2")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert report.commit() == f"{head}, and changes since"


def test_do_it_again_is_the_whole_command_and_so_is_a_notebooks():
    alpha, flag = {"distillation": {"alpha": 0.5}}, """ -y '{"distillation": {"alpha": 0.5}}'"""
    assert report._again(made(None)) == "make reproduce PROFILE=demo"
    assert report._again(made(None, **alpha)) == f".venv/bin/python -m rosutils reproduce demo{flag}"
    papermill = ".venv/bin/papermill notebooks/04_tables.ipynb out.ipynb --cwd notebooks -p profile demo"
    assert report._again(made(None), "04_tables") == papermill
    assert report._again(made(None, **alpha), "04_tables") == papermill + flag
    real = made(None)
    real.parameters = params.load("real", data={"root": "images"})
    assert report._again(real) == "make reproduce PROFILE=real DATA=FOLDER"
    assert report._again(real, "04_tables").endswith("""-p profile real -y '{"data": {"root": "FOLDER"}}'""")


def test_departures_name_the_sample_and_what_the_paper_does_not_state_has_no_number(plain):
    rows = read(plain).split('id="departures"')[1].split("</table>")[0]
    assert "<td>lesion images</td><td>25,331</td><td>800</td>" in rows
    pixels = next(row for row in rows.split("<tr>") if "<td>data.pixels" in row)
    assert "<td>not stated</td>" in pixels and "224" not in pixels


def test_pictures_come_in_the_order_of_the_items_and_only_those_that_exist(tmp_path):
    several = [Item(name, name, "", (), None, "", each=name == "b") for name in ("b", "a", "c")]
    for name in ("a", "b_lesion", "b_chest", "unknown"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    found = re.findall(r'alt=" \((\w+)\)"', written(tmp_path, items=several))
    assert found == [*(f"b_{task}" for task in params.load("demo").tasks), "a"]


def test_what_is_drawn_is_in_the_page_without_loss_and_a_photograph_with(tmp_path):
    drawing = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(drawing).rectangle((20, 20, 120, 60), fill="navy")
    drawing.save(tmp_path / "drawing.png")
    grain = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    Image.fromarray(grain).filter(ImageFilter.GaussianBlur(3)).save(tmp_path / "photograph.png")
    study = SimpleNamespace(figures=tmp_path)
    packed = [base64.b64decode(report._picture(study, name)["data"]) for name in ("drawing", "photograph")]
    assert [content[8:16] for content in packed] == [b"WEBPVP8L", b"WEBPVP8 "]


def test_only_the_papers_own_profile_is_called_comparable(plain, tmp_path):
    assert "not comparable" in read(plain) and "at this scale" in read(plain)
    same = written(tmp_path, None, "profile paper")
    assert "not comparable" not in same and "at this scale" not in same


def test_nothing_run_is_still_a_page(tmp_path):
    page = Page(written(tmp_path, everything().iloc[:0]))
    assert any("nothing to compare yet" in words for words in page.words)
