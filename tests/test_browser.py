"""JupyterLab as a person has it: notebooks with widgets run from top to bottom on smoke, every widget moved once, in a browser."""

import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import copy_of
from PIL import Image

from rosutils.params import ROOT


CHROMIUM = Path("/usr/bin/chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[dev]")
if not CHROMIUM.is_file():
    pytest.skip(f"there is no browser at {CHROMIUM}: apt install chromium", allow_module_level=True)

# What JupyterLab itself says where there is no network, and of a workspace that is new.
_SAID = "Failed to load resource|api/workspaces|extensionmanager|lab/api/news|ERR_INTERNET|ERR_NAME_NOT_RESOLVED"
NOT_OURS = re.compile(_SAID)
# Of each notebook at least so many.
CONTROLS = {"01_data": 9, "02_teachers": 1, "03_distillation": 8, "04_tables": 1, "06_adversarial": 6}
CONTROLS |= {"05_figures": 0, "07_loss_landscape": 6, "08_label_noise": 2, "09_report": 0, "10_own_labels": 0}
NOTEBOOK = ".jp-NotebookPanel:not(.lm-mod-hidden)"  # the one in front
DONE = """() => {
    const cells = [...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell')];
    if (document.querySelector('[data-mime-type="application/vnd.jupyter.error"]')) return true;
    return cells.length > 0 && cells.every(cell => /\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').textContent));
}"""


@pytest.fixture(scope="module")
def lab(smoke, tmp_path_factory):
    """The address of a JupyterLab that `make lab`'s command has started."""
    folder = tmp_path_factory.mktemp("lab")
    store = copy_of(smoke[2], folder)
    profile = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
    profile["engine"] |= {"store": str(store), "artefacts": str(store / "figures")}
    (folder / "smoke.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    options = ["--no-browser", f"--port={port}", "--IdentityProvider.token=abc", "--expose-app-in-browser"]
    options += ["--allow-root"] * (os.geteuid() == 0)
    command = [sys.executable, "-m", "rosutils", "lab", "--profile", str(folder / "smoke.yaml"), "--", *options]
    own["OMP_NUM_THREADS"] = "1"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api?token=abc")
            break
        except OSError:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.5)
    yield address
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def pages(lab):
    """JupyterLab's page by how many of a screen's pixels are a point: it takes longer to load than a notebook to open."""
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])

        @cache
        def opened(scale: int):
            page = browser.new_page(viewport={"width": 1400, "height": 4000}, device_scale_factor=scale)
            page.complaints = []
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
            page.goto(f"{lab}/lab?token=abc&reset")
            page.wait_for_function("window.jupyterapp?.shell.isAttached", timeout=120_000)
            return page

        yield opened
        browser.close()


@pytest.fixture
def page(pages, name):
    """JupyterLab with a notebook opened; with SHOTS=folder in the environment its outputs' pictures are left there."""
    # where screens have two pixels a point, a surface once turned by half
    page = pages(2 if name == "07_loss_landscape" else 1)
    page.evaluate("path => void jupyterapp.commands.execute('docmanager:open', {path})", f"lab/{name}.ipynb")
    page.wait_for_selector(f"{NOTEBOOK} .jp-CodeCell", timeout=120_000)
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=120_000)  # or Run All asks for a kernel
    return page


def run_all(page) -> None:
    page.click("text=Run >> nth=0")
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    page.wait_for_function(DONE, timeout=300_000)


def move_everything(page) -> int:
    """Move every slider a step, choose the last of every menu; how many there were."""
    controls = page.locator(".jupyter-widgets .noUi-handle:visible, .jupyter-widgets select:visible")
    for number in range(controls.count()):
        control = controls.nth(number)
        if control.evaluate("element => element.tagName") == "SELECT":
            control.select_option(index=control.evaluate("element => element.options.length") - 1)
        else:
            control.press("ArrowLeft")
    return controls.count()


@pytest.mark.parametrize("name", CONTROLS)
def test_run_all_and_every_widget(page, name):
    run_all(page)
    if name == "07_loss_landscape":
        a_surface_turns_under_the_mouse(page)
    moved = move_everything(page)
    page.wait_for_timeout(1000)  # until the kernel hears of it
    page.wait_for_selector("text=Python 3 (ipykernel) | Idle", timeout=120_000)
    if shots := os.environ.get("SHOTS"):
        page.screenshot(path=f"{shots}/{name}.png")
        for number, output in enumerate(page.locator(".jp-OutputArea-child:visible").all()):
            output.screenshot(path=f"{shots}/{name}-{number:02}.png")
    errors = page.locator(
        f"{NOTEBOOK} .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']"
    ).all_inner_texts()
    assert errors == []
    assert moved >= CONTROLS[name]
    assert [text for text in page.complaints if not NOT_OURS.search(text)] == []


def a_surface_turns_under_the_mouse(page) -> None:
    surface = page.locator(".jupyter-matplotlib-canvas-div").first
    surface.scroll_into_view_if_needed()  # it was drawn where nobody saw it
    page.wait_for_timeout(1000)
    before = pixels(surface)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 100
    box = surface.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 240, steps=4)
    page.mouse.up()
    page.wait_for_timeout(2000)
    halves = np.array_split(np.any(pixels(surface) != before, axis=2), 2, axis=1)
    assert all(half.mean() > 0.01 for half in halves)  # both models' turn together


def pixels(element) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB"))
