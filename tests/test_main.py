"""The command line: what is wrong ends in one line that names it, exit status 2, and nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from test_isic2019 import INPUT, TRUTH, truth_line, write

from rosutils import params
from rosutils.__main__ import OWNER, _owner, main
from rosutils.data.sources import open_source
from rosutils.params import FOLDER, ROOT, profiles
from rosutils.store import write_whole
from rosutils.study import Study


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_refused(result, *named) -> None:
    """Exit status 2, and beside progress bars one line on stderr, which names the thing."""
    assert result.exit_code == 2, (result.output, result.exception)
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.strip() and "%|" not in line]
    lines = [line for line in lines if "elapsed, about" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    assert [part for part in named if part not in lines[0]] == []
    assert "Traceback" not in result.output


def left_behind(folder: Path) -> list[Path]:
    """Files in a folder but for the locks, which are empty."""
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


def sections(folder: Path, **changes) -> str:
    return yaml.safe_dump({"engine": {"backend": "inline", "store": str(folder), "artefacts": str(folder)}, **changes})


@pytest.mark.parametrize("command", ["reproduce", "status"])
@pytest.mark.parametrize(
    "changes, named",
    [
        ({"subsets": {"overlp": 0.4}}, ["subsets.overlp", "unknown key", "overlap"]),
        ({"training": {"batch_size": 4000}}, ["training.batch_size is 4000", "examples: use a smaller"]),
        ({"data": {"sources": {"lesion": {"examples": 3}}}}, ["split leaves", "3 images"]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_wrong_parameters_are_refused(tmp_path, command, changes, named):
    assert_refused(run(command, "smoke", "-y", sections(tmp_path / "runs", **changes)), *named)
    assert left_behind(tmp_path / "runs" / "store") == []


@pytest.mark.parametrize(
    "text, named",
    [
        ("{profile: other, subsets: {overlap: 0.2}}", "leave it out"), ("{1: 2}", "must be YAML sections"),
        ("{on: 2}", "must be YAML"), ("[1", "not valid YAML"), ("3", "must be YAML sections"),
    ],
)  # fmt: skip
def test_options_that_are_no_sections_are_refused(text, named):
    assert_refused(run("status", "smoke", "-y", text), "-y", named)


def test_an_unknown_profile_or_study_and_a_file_with_a_misspelt_key_are_refused(tmp_path):
    assert_refused(run("reproduce", "smok"), "smok", *profiles())
    text = sections(tmp_path / "runs")
    assert_refused(run("compare", "smoke+alpha0.5", "smoke", "-y", text), "the study 'smoke+alpha0.5' has no results")
    text = (FOLDER / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "my.yaml").write_text(text.replace("  epochs: 2", "  epoch: 2"), encoding="utf-8")
    assert_refused(run("reproduce", tmp_path / "my.yaml"), "training.epoch", "did you mean 'epochs'")


# Raw folders


def real(folder: Path, *arguments, **changes):
    data = {"allow_missing": False, "pixels": 33, **changes.pop("data", {})}
    return run(*arguments, "-y", sections(folder / "runs", tasks=["lesion"], data=data, **changes))


def test_real_data_without_a_place_or_with_one_that_is_not_there_are_refused(tmp_path):
    for command in ("reproduce", "status"):
        assert_refused(real(tmp_path, command, "real"), "isic2019", "DATA=")
    found = real(tmp_path, "reproduce", "real", "--data", tmp_path / "none")
    assert_refused(found, str(tmp_path / "none" / "isic2019"))
    found = run("prepare", "isic2019", "--raw", tmp_path / "no", "--size", 16, "--out", tmp_path / "out")
    assert_refused(found, "no", "raw")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "file, content, named",
    [
        (TRUTH, truth_line("ISIC_0000002", "MEL", "NV"), [TRUTH, "not exactly one 1", "line(s): 2"]),
        (f"{INPUT}/ISIC_0000003.jpg", "<html>404</html>", ["ISIC_0000003.jpg", "not readable images"]),
        (f"{INPUT}/ISIC_0000003.jpg", None, ["1 of 5 images", "ISIC_0000003", "allow_missing"]),
    ],
    ids=["two classes", "no image", "missing"],
)
def test_a_wrong_raw_folder_is_refused_and_nothing_half_written_stays(tmp_path, file, content, named):
    path = write(tmp_path) / file
    if content is None:
        path.unlink()
    else:
        head = path.read_text().splitlines()[:1] if file == TRUTH else []
        path.write_text("\n".join([*head, content]))
    assert_refused(real(tmp_path, "reproduce", "real", "--data", tmp_path), *named)
    prepared = run("prepare", "isic2019", "--raw", tmp_path / "isic2019", "--size", 16, "--out", tmp_path / "out")
    assert_refused(prepared, *named)
    assert not list(tmp_path.rglob("card.json")), "what is decoded may wait for the rest, and is no cache"


def test_prepare_makes_the_cache_that_a_study_finds(tmp_path):
    arguments = ("prepare", "isic2019", "--raw", write(tmp_path), "--size", 16, "--out", tmp_path / "out")
    times = []
    for _ in range(2):
        done = run(*arguments)
        assert done.exit_code == 0 and "5 images at 16 px" in done.output
        (folder,) = [path for path in (tmp_path / "out").iterdir() if path.is_dir()]
        times.append({path: path.stat().st_mtime_ns for path in folder.iterdir()})
    assert np.load(folder / "images.npy").shape == (5, 3, 16, 16)
    section = Study.load("real").parameters.data.sources["lesion"]
    found = open_source(section, pixels=16, root=tmp_path, allow_missing=False, cache_root=tmp_path / "out")
    assert len(found.names) == 5
    assert times[0] == times[1] == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_prepare_knows_its_sources_and_has_them_from_the_argument_alone(tmp_path):
    options = ["--raw", tmp_path, "--size", 16, "--out", tmp_path / "out"]
    assert_refused(run("prepare", "imagenet", *options), "imagenet", "nih")
    assert_refused(run("prepare", "folder", *options, "-y", "{source: nih}"), "'source'", "leave it out")


def test_prepare_takes_the_options_of_a_source_and_leaves_bad_files_out_if_asked(tmp_path):
    raw = tmp_path / "mine"
    raw.mkdir()
    for number in range(6):
        Image.new("L", (20, 20), 40 * number).save(raw / f"{number}.png")
    (raw / "4.png").write_bytes(b"")
    (raw / "labels.csv").write_text("image,dx\n" + "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(6)))
    arguments = ("prepare", "folder", "--raw", raw, "--size", 16, "--out", tmp_path / "out")
    assert_refused(run(*arguments), "no column label", "'image', 'dx'")
    assert_refused(run(*arguments, "-y", "{lable: dx}"), "lable: unknown key", "label, labels")
    assert_refused(run(*arguments, "-y", "{label: dx}"), "1 file(s)", "4.png", "empty, 0 bytes", "--skip-bad")
    done = run(*arguments, "-y", "{label: dx}", "--skip-bad")
    assert done.exit_code == 0 and "5 images at 16 px" in done.output


# What works


def test_a_plan_is_told_and_so_is_how_far_a_study_is(tiny_sections, load_tiny, tmp_path):
    study = load_tiny(tmp_path)
    count, text = len(study.unique(study.all_runs())), yaml.safe_dump(tiny_sections(tmp_path))
    planned = run("plan", "smoke", "-y", text, "--workers", "2", "--speed", "50")
    assert planned.exit_code == 0, planned.output
    assert f"in all        {count:>6}" in planned.stdout and "workers: 2, each of 50 images a second" in planned.stdout
    summary, every = run("status", "smoke", "-y", text), run("status", "smoke", "-y", text, "--all")
    assert summary.exit_code == every.exit_code == 0, every.output
    assert "missing " not in summary.stdout and f"in all        {count:>6}" in summary.stdout
    lines = every.stdout.splitlines()
    assert sum(line.startswith("missing ") for line in lines) == count
    assert "lesion: student mobilenet_v2, exponential weights, replicate 1  (student-mobilenet_v2-" in every.stdout
    assert lines[-1] == "how long they take: python -m rosutils plan smoke"


@pytest.mark.parametrize(
    "changes, cause",
    [
        ({"training": {"learning_rate": 1e4, "weight_decay": 0.0}}, "; lower training.learning_rate (10000)"),
        ({"training": {"weight_decay": 1e6}}, "training.weight_decay (1e+06)"),
    ],
    ids=["learning rate", "weight decay"],
)
def test_a_training_that_diverges_is_status_1_and_one_line_with_run_and_cause(tiny_sections, tmp_path, changes, cause):
    result = run("reproduce", "smoke", "-y", yaml.safe_dump(tiny_sections(tmp_path, **changes)))
    assert result.exit_code == 1 and "Traceback" not in result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: lesion: ") and cause in line, line
    assert not [path for path in (tmp_path / "runs" / "store").rglob("*") if "teacher" in path.name]


def test_a_gpu_that_is_not_there_is_told_by_every_command(tiny_sections, shared_folder, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    text = yaml.safe_dump(tiny_sections(shared_folder, engine={"device": "cuda"}))
    for command in (["reproduce", "smoke"], ["reproduce", "smoke", "--dry-run"], ["status", "smoke"]):
        assert_refused(run(*command, "-y", text), "engine.device is 'cuda'", "give auto, or cpu")


def test_a_store_that_cannot_be_written_is_one_line_with_its_folder_and_what_is_free(tiny_sections, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "store").write_text("a file where a folder is to be")
    result = run("reproduce", "smoke", "-y", yaml.safe_dump(tiny_sections(tmp_path)))
    lines = result.stderr.splitlines()
    assert result.exit_code == 1 and sum(line.startswith("error: ") for line in lines) == 1, result.output
    assert str(tmp_path / "runs" / "store") in lines[-1] and "MB are free" in lines[-1]


def test_a_file_does_not_write_into_the_folders_that_another_of_its_profiles_name_has_made(tmp_path):
    ours, theirs = tmp_path / "a" / "mine.yaml", tmp_path / "b" / "mine.yaml"

    def written(path, alpha):
        path.parent.mkdir(exist_ok=True)
        engine = {"store": str(tmp_path), "artefacts": str(tmp_path / "figures")}
        found = params.load("smoke", engine=engine, distillation={"alpha": alpha})
        path.write_text(yaml.safe_dump(found.model_dump(mode="json") | {"profile": "mine"}))
        return str(path)

    study = Study.load(written(ours, 0.9))
    write_whole(study.output / OWNER, _owner(study, str(ours)))
    refused = str(tmp_path / "mine"), str(ours), "whose parameters are others", str(theirs), "`profile:`"
    for command in (["reproduce", "--dry-run"], ["redraw"]):
        assert_refused(run(*command, written(theirs, 0.5)), *refused)
    for path, alpha in ((theirs, 0.9), (ours, 0.7)):  # the same study; the same file, changed
        assert run("reproduce", "--dry-run", written(path, alpha)).exit_code == 0
    written(theirs, 0.5)
    ours.unlink()
    (study.output / OWNER).write_text("[]")
    assert run("reproduce", "--dry-run", str(theirs)).exit_code == 0


LATE = """
import os, runpy, signal, sys

class Last:
    def __del__(self, kill=os.kill, number=signal.NAME, process=os.getpid()):
        kill(process, number)

last, sys.argv = Last(), ["rosutils", "--help"]
runpy.run_module("rosutils", run_name="__main__")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_after_all_is_done_changes_nothing(name):
    """When Python ends it has no handlers left, and died of it: status -2 of a command that had done its work."""
    done = subprocess.run([sys.executable, "-c", LATE.replace("NAME", name)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "reproduce" in done.stdout and done.stderr == ""


def test_as_a_process_wrong_input_is_one_line_on_stderr_and_status_2(tmp_path):
    command = [sys.executable, "-m", "rosutils", "reproduce", "smoke", "-y"]
    text, env = sections(tmp_path / "runs", subsets={"overlap": 1.4}), {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([*command, text], capture_output=True, text=True, env=env, timeout=120)
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.count("\n") == 1 and found.stderr.startswith("error: subsets.overlap: 1.4 is not allowed")
    assert left_behind(tmp_path) == []
