"""The report in a browser: weight, screens and pages, nothing that axe objects to, and a number that says where it comes from."""

import re
import shutil

import pytest
from test_report import whole_page

from rosutils.paper import report


sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the report is not looked at")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed: the report is not checked"
)
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: the report is not looked at")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    return whole_page(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def opened(browser, file, size="desktop", **look):
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, **look)
    page.goto(file.as_uri())
    return page


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_it_fits_its_screens_and_axe_has_nothing_to_say_folded_or_not(browser, page_file, size, scheme):
    page = opened(browser, page_file, size, color_scheme=scheme)
    height, width = page.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]")
    assert width == SIZES[size][0] and height <= 25 * SIZES[size][1]
    answer = page.locator("#answer .answer p").first.bounding_box()
    assert answer["y"] + answer["height"] < SIZES[size][1], "the answer is not on the first screen"
    for _ in range(2):
        assert [found["id"] for found in axe.Axe().run(page).response["violations"]] == []
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.close()


def test_it_is_light_and_prints_on_few_pages(browser, page_file):
    assert page_file.stat().st_size <= 2e6
    page = opened(browser, page_file)
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) <= 20
    page.close()


def test_a_number_says_its_replicates_runs_and_what_makes_it_again(browser, page_file):
    page, errors = opened(browser, page_file), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    row = page.locator("#table1-table tr", has=page.locator("th", has_text=re.compile("^RoS-KD$"))).first
    button = row.locator("td button").last
    mean = float(button.inner_text().split()[0])
    button.focus()
    page.keyboard.press("Enter")
    said = page.locator("#pop")
    values = [float(each) for each in said.locator("li > b").all_inner_texts()]
    assert len(values) >= 3 and sum(values) / len(values) == pytest.approx(mean, abs=5e-4)
    assert {f"run-RoS-KD-{n}" for n in range(3)} <= set(said.locator("li > a").all_inner_texts())
    assert "04_tables.ipynb" in said.locator("pre").last.inner_text() and report.commit() in said.inner_text()
    assert [found["id"] for found in axe.Axe().run(page).response["violations"]] == []
    page.keyboard.press("Escape")
    assert not said.is_visible() and errors == []
    page.close()


def test_a_recipe_is_told_where_it_is_known():
    recipes = {"a": {"seed": 1, "training": {"epochs": 8}}, "b": {"seed": 2, "training": {"epochs": 8}}}
    packed = report._recipes(recipes)
    assert packed["runs"] == {"a": [0, 1], "b": [2, 1]} and packed["parts"][1] == '{"training": {"epochs": 8}}'
