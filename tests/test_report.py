"""The report: whole, self-contained, honest about what the numbers show."""

import json
import math
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from test_claims import EPS, everything
from test_further_tables import SEEDS, made
from test_further_tables import everything as everything_in_tables
from test_tables import BESIDE, made_up

from rosutils import figures, report
from rosutils.results import published, validate
from rosutils.settings import CHANCE, PRINTED_AVERAGE, ROWS
from rosutils.tables import table1


TASKS = {"lesion": {"multilabel": False}, "chest": {"multilabel": True}}
VOID = {"meta", "img", "br", "link", "hr", "input"}


def measured(offsets, seeds=(0, 1, 2), spread=0.001):
    """RoS-KD at 0.5; each other setting below it by its offset, give or take `spread` with the replicate."""
    rows = [
        {"task": task, "setting": setting, "student": "resnet18", "replicate": seed, "overlap": 0.4, "noise": 0.2,
         "variant": "", "attack": "", "eps": math.nan, "norm": "", "class": "",
         "average": PRINTED_AVERAGE[about["multilabel"]], "metric": metric,
         "value": 0.5 - offsets.get(setting, 0.0) + (spread * (seed - 1) if setting != "RoS-KD" else 0),
         "run": f"student-{setting.replace(' ', '')}-{seed}"}
        for task, about in TASKS.items() for setting in ROWS for seed in seeds
        for metric in ("precision", "recall", "f1")
    ]  # fmt: skip
    return validate(pd.DataFrame(rows))


OFFSETS = {"Baseline I": 0.058, "Baseline II": 0.01, "Baseline III": -0.04, "Baseline V": 0.0005}


def write(folder, **changes):
    options = {
        "profile": "demo", "watermark": "profile demo · synthetic images · not comparable with the paper",
        "results": measured(OFFSETS), "tasks": TASKS, "departures": [("epochs", "50", "8 <b>")],
        "readings": [("weights & sums", "normalised", "raw")], "command": "make reproduce PROFILE=demo",
        "provenance": FACTS, "tables": [table_one(), checks()], "eps": EPS,
    } | changes  # fmt: skip
    return report.write_report(folder, **options)


def table_one(results=None):
    frame = table1(measured(OFFSETS) if results is None else results, student="resnet18", tasks=TASKS)
    return {
        "name": "table1",
        "title": "Table I",
        "frame": frame,
        "caption": "Means & <seeds>.",
        "notebook": "04_tables",
    }


def checks():
    index = pd.Index(["radius 0 is the identity", "noise is weaker"], name="check")
    frame = pd.DataFrame({"found": [0.0, 0.25], "verdict": ["pass", "fail"]}, index=index)
    about = {"title": "Self-checks", "caption": "Of the attacks.", "notebook": "06_adversarial"}
    return {"name": "self_checks", "frame": frame} | about


RECIPE = {"role": "student", "replicate": 0, "training": {"epochs": 8, "learning_rate": 0.02, "milestones": [4, 6]}}
TEACHER = "teacher-resnet18-0123456789abcdef"
FACTS = {
    "kit": "0.1", "data": {"lesion": {"images": 800, "sizes": [1, 2]}}, "versions": {"torch": "2.15"},
    "runs": {"student-RoS-KD-0": {"run": "lesion: student <resnet18>", "seconds": 1.5, "device": "CPU"}, TEACHER: {}},
    "recipes": {"student-RoS-KD-0": RECIPE | {"teachers": [TEACHER]}, "student-BaselineI-0": RECIPE, TEACHER: RECIPE},
}  # fmt: skip


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
    drawn = figures.table1_plot(measured(OFFSETS), tasks=TASKS, student="resnet18")
    return figures.write_figure(drawn, tmp_path / "figures", "table1", "")[1]


def read(path):
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_else(tmp_path, picture):
    text = read(write(tmp_path, figures=[(picture, "Table I as dots", "F1 <beside> the paper's")]))
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>") and '<meta name="viewport" content="width=device-width' in text
    assert len(page.loads) == 1 and page.loads[0].startswith("data:image/png;base64,iVBOR")
    assert not re.search(r"https?:|@import|url\(|<script|<link", text)
    assert 'alt="Table I as dots. F1 &lt;beside&gt; the paper' in text


@pytest.mark.parametrize(
    "results", [measured(OFFSETS), everything(), measured(OFFSETS).iloc[:0]], ids=["I", "all", "none"]
)
def test_every_link_leads_to_a_place_and_every_place_has_one_name(tmp_path, picture, results):
    page = Page(read(write(tmp_path, results=results, figures=[(picture, "a", "b")])))
    assert len(set(page.ids)) == len(page.ids)
    assert page.links and {link for link in page.links if not (link.startswith("#") and link[1:] in page.ids)} == set()


def test_what_is_given_is_shown_as_text_not_as_markup(tmp_path):
    text = read(write(tmp_path))
    assert "8 &lt;b&gt;" in text and "weights &amp; sums" in text and "images: 800, sizes: 1, 2" in text
    assert "Means &amp; &lt;seeds&gt;." in text and "student &lt;resnet18&gt;" in text
    assert not re.search("<b>|<seeds>|<resnet18>", text.replace('"><b>', ""))


def test_the_same_input_gives_the_same_bytes(tmp_path, picture):
    options = {"figures": [(picture, "a", "b")]}
    assert write(tmp_path / "a", **options).read_bytes() == write(tmp_path / "b", **options).read_bytes()


def section(text, name):
    """The text of the element of class "entry" or "run" with this id."""
    return re.search(rf'id="{name}">(.*?)(?=<div class="entry"|<p class="run"|<h3|<h2)', text, flags=re.DOTALL).group(1)


def test_one_click_leads_from_a_number_to_its_replicates_runs_and_notebook_and_one_more_to_the_recipe(tmp_path):
    text = read(write(tmp_path))
    number = r'RoS-KD</th><td class="first">0.713</td><td class="ours"><a href="#([^"]+)">0.500 ± 0.000'
    [link] = re.findall(number, text)
    place = section(text, link)
    assert "<code>04_tables</code>" in place and place.count("0.500000") == 9  # three metrics, three replicates
    assert re.findall(r'href="#(run-[^"]+)"', place) == [f"run-student-ros-kd-{seed}" for seed in (0, 1, 2)]
    run = section(text, "run-student-ros-kd-0")
    assert "role: &#34;student&#34;" in run and "1.5 s" in run
    assert f'<a href="#run-{TEACHER}">{TEACHER}</a>' in run


def test_the_measurements_behind_a_cell_are_those_it_is_the_mean_of(tmp_path):
    results = measured(OFFSETS, spread=0.01)
    text, frame = (
        read(write(tmp_path, results=results, tables=[table_one(results)])),
        table1(results, student="resnet18", tasks=TASKS),
    )
    for task in TASKS:
        for setting in ROWS:
            place = section(text, f"from-table1-{task}-{report.provenance.anchor(setting)}")
            f1 = [float(line[-1]) for line in re.findall(r"<td>(0\.\d+)</td><td>(0\.\d+)</td><td>(0\.\d+)</td>", place)]
            assert len(f1) == 3 and sum(f1) / 3 == pytest.approx(frame.loc[setting, (task, "F1", "ours")], abs=1e-6)


def test_what_no_skill_scores_leads_to_its_own_measurements_and_to_no_settings(tmp_path):
    results = made_up()
    text = read(write(tmp_path, results=results, tables=[table_one(results)]))
    for task, more in (("lesion", []), ("chest", [0.05])):  # where images have several labels, its mean AUROC as well
        for name, value in BESIDE.items():
            place = section(text, f"from-table1-{task}-{report.provenance.anchor(name)}")
            found = [float(number) for number in re.findall(r"<td>(0\.\d+)</td>", place)]
            rows = [[value + seed / 100 + aside for aside in (*more, 0, 0, 0)] for seed in range(3)]
            assert found == pytest.approx([number for row in rows for number in row])
            assert f'href="#from-table1-{task}-{report.provenance.anchor(name)}"' in text


def test_a_figure_with_a_line_of_no_skill_leads_to_that_too():
    shown = {
        name: report.traces.rows_in_figure(name, made_up(), TASKS, student="resnet18") for name in ("table1", "fig2")
    }
    assert set(shown["table1"]["setting"]) == {*ROWS, *CHANCE} and shown["fig2"].empty
    assert set(shown["table1"]["metric"]) == {"f1"} and set(shown["table1"]["student"]) == {"resnet18", ""}
    attacked = everything_in_tables()
    for name in ("table2", "eps_curve"):
        rows = report.traces.rows_in_figure(name, attacked, TASKS, student="resnet18")
        nobody = rows[rows["setting"].isin(CHANCE)]
        assert set(nobody["setting"]) == set(CHANCE) and set(nobody["attack"]) == {"attacked sample"}
        assert set(rows["setting"]) > set(CHANCE)


def test_parts_that_recipes_share_are_printed_once(tmp_path):
    text = read(write(tmp_path))
    assert text.count("&#34;learning_rate&#34;: 0.02") == 1
    assert text.count('<a href="#part-training-1">training 1</a>') == 3


def test_every_verdict_table_carries_the_watermark(tmp_path):
    text = read(write(tmp_path, watermark="profile demo"))
    stamps = text.count('<p class="stamp">profile demo · not comparable with the paper</p>')
    tables = sum(">verdict</th>" in table for table in text.split("<table")[1:])
    assert tables == 5 and stamps == tables + 1  # the claims are not a table


def test_a_cell_is_within_or_outside_the_tolerance_only_beside_a_printed_number(tmp_path):
    results = measured({"Baseline I": -0.158 - 0.0149, "Baseline II": 0.5 - 0.684 - 0.0151}, spread=0.0)
    text = read(write(tmp_path, results=results, tables=[table_one(results)]))
    lesion = text.split('id="table1-lesion"')[1].split("</table>")[0]
    words = dict(re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>.*?([a-z]*)</td></tr>', lesion))
    assert words["Baseline I"] == "within" and words["Baseline II"] == "outside"
    assert words["Baseline III, subset teachers"] == ""
    assert published()["tolerances"]["table1"] == 0.015


def test_the_bootstrap_over_test_groups_stands_beside_the_interval_over_replicates(tmp_path):
    text = read(write(tmp_path, intervals={("lesion", "Baseline I"): (-0.0123, 0.0234)}))
    lesion = text.split('id="verdict-lesion"')[1].split("</table>")[0]
    assert "<td>−0.012 to +0.023</td>" in lesion and "over test groups" in lesion
    assert "over test groups" not in text.split('id="verdict-chest"')[1].split("</table>")[0]


def test_many_groups_are_stacked_so_that_table_three_fits(tmp_path):
    methods, classes = ["Wang et al. [1]", "RoS-KD"], published()["table3"]["classes"]
    part = pd.DataFrame(
        {"published": [0.73, 0.83], "ours": [math.nan, 0.835], "std": [math.nan, 0.01], "n": [pd.NA, 3]}, index=methods
    )
    part["difference"] = part["ours"] - part["published"]
    frame = pd.concat({name: part for name in classes}, axis=1, names=["class", "column"]).rename_axis("method")
    about = {"name": "table3", "title": "Table III", "caption": "AUROC.", "notebook": "04_tables"}
    text = read(write(tmp_path, results=everything(), tables=[{"frame": frame} | about]))
    table = text.split('id="table3-chest"')[1].split("</table>")[0]
    rows = re.findall(r'<th scope="row">(.*?)</th>', table)
    assert rows == ["Wang et al. [1]", "RoS-KD, paper", "RoS-KD, ours", "RoS-KD, diff.", "RoS-KD, verdict"]
    assert table.count('<a href="#from-table3-chest-ros-kd">0.835 ± 0.010</a>') == len(classes)
    assert table.count("within") == len(classes)


def test_the_tables_of_the_kit_are_shown_each_number_with_what_it_is_made_of(tmp_path):
    shown = [
        {"name": name, "title": f"Table {name}", "frame": frame, "caption": caption, "notebook": "04_tables"}
        for name, (frame, caption) in made(*SEEDS).items()
    ]
    text = read(write(tmp_path, results=everything_in_tables(), tables=shown, figures=[]))
    page = Page(text)
    assert {link for link in page.links if link[1:] not in page.ids} == set()
    before, after = (section(text, f"from-table2-lesion-{row}-ros-kd") for row in ("before-attack", "l2-pgd"))
    assert [re.findall(r"<td>(0\.\d+)</td>", part)[::3] for part in (before, after)] == [
        ["0.640000", "0.650000", "0.660000"], ["0.340000", "0.350000", "0.360000"],
    ]  # fmt: skip
    for place in ("from-table2-lesion-no-skill-best-constant", "from-table3-chest-best-constant"):
        numbers = re.findall(r"<td>(0\.\d+)</td>", section(text, place))
        assert sorted(set(numbers)) == ["0.190000", "0.200000", "0.210000"]
    table3 = text.split('id="table3-chest"')[1].split("</table>")[0]
    assert "RoS-KD, paper</th><td>0.830 ± 0.000" in table3 and "public split</th><td>0.829</td>" in table3
    assert "from-table3-chest-ros-kd" in page.ids and not [
        name for name in page.ids if "from-table3-chest-wang" in name
    ]
    comparisons = text.split('id="comparisons-lesion"')[1].split("</table>")[0]
    assert '<td class="first">+0.058</td><td class="ours">' in comparisons and ">+0.060</a>" in comparisons
    copied = section(text, "from-landscape-lesion-ros-kd-batchnorm-as-copied")
    assert "0.350000" in copied and "0.450000" in copied and "12347.600000" in copied  # two pairs of directions


def test_long_tables_of_checks_are_folded_under_their_count(tmp_path):
    frame = pd.DataFrame({"check": [f"check {i}" for i in range(40)], "passed": [i != 7 for i in range(40)]})
    about = {"name": "self_checks", "title": "Self-checks", "caption": "", "notebook": "06_adversarial"}
    assert "<summary>40 rows: 39 pass, 1 fail</summary>" in read(write(tmp_path, tables=[{"frame": frame} | about]))


def test_self_checks_pass_or_fail_in_words(tmp_path):
    table = read(write(tmp_path)).split('id="self-checks"')[1].split("</table>")[0]
    assert '<td class="verdict good">pass</td>' in table and '<td class="verdict bad">fail</td>' in table


def test_one_replicate_is_marked_and_given_no_spread(tmp_path):
    results = measured(OFFSETS, seeds=[0])
    text = read(write(tmp_path, results=results, tables=[table_one(results)]))
    table = text.split('id="table1-lesion"')[1].split("</table>")[0]
    assert "±" not in table and table.count("<small>n = 1</small>") == 3 * len(ROWS)


def test_every_claim_is_on_the_page_with_its_verdict_in_words_and_its_pairs(tmp_path):
    text = read(write(tmp_path, results=everything(), profile="paper", watermark="profile paper"))
    for claim in published()["claims"]:
        article = text.split(f'id="claim-{claim["id"]}"')[1].split("</article>")[0]
        assert re.search(r'class="pill \w+">(holds|better, but not by the printed gain)</span>', article)
        assert f'href="#from-claim-{claim["id"]}"' in article
    assert f"Of the {len(published()['claims'])} claims" in text


def test_pictures_come_in_the_order_of_the_paper_and_each_once(tmp_path):
    names = ["fig4_surface_chest", "fig4_chest", "noise_lesion", "noise_f1", "fig2", "fig1", "unknown", "readings"]
    for name in names:
        (tmp_path / f"{name}.png").touch()
    found = [path.stem for path, _, _ in report.pictures(tmp_path)]
    assert found == ["fig1", "fig2", "fig4_chest", "fig4_surface_chest", "readings", "noise_f1", "noise_lesion"]


def test_a_figure_leads_to_its_numbers(tmp_path, picture):
    other = picture.with_stem("fig3")
    other.write_bytes(picture.read_bytes())
    text = read(write(tmp_path, results=everything(), figures=[(picture, "Dots", "b"), (other, "c", "d")]))
    assert text.index('id="figure-fig3"') < text.index('id="figure-table1"')
    assert "overlap" in section(text, "from-figure-fig3") and "run-RoS-KD-2" in section(text, "from-figure-fig3")


def test_every_note_on_the_papers_contradictions_is_on_the_page(tmp_path):
    page = Page(write(tmp_path).read_text(encoding="utf-8"))
    for note in published()["contradictions"]:
        assert f"note-{note['id']}" in page.ids
        assert note["printed"] in page.words


def test_only_the_papers_own_profile_is_called_comparable(tmp_path):
    assert "not comparable with the paper" in write(tmp_path, watermark="profile demo").read_text(encoding="utf-8")
    paper = write(tmp_path, profile="paper", watermark="profile paper").read_text(encoding="utf-8")
    assert "not comparable" not in paper and "at the scale of these runs" not in paper


def test_nothing_run_is_still_a_page(tmp_path):
    empty = measured(OFFSETS).iloc[:0]
    Page(write(tmp_path, results=empty).read_text(encoding="utf-8"))


def test_provenance_is_sorted_and_knows_no_time(tmp_path):
    path = report.write_provenance(tmp_path, {"b": {"z": 1, "a": [1, 2]}, "a": "é"})
    assert path.name == "provenance.json"
    assert path.read_text(encoding="utf-8").index('"a": "é"') < path.read_text(encoding="utf-8").index('"b"')
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é", "b": {"a": [1, 2], "z": 1}}
