"""The benchmarks: what they write, and that they start; never how long anything takes."""

import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from rosutils.params import ROOT


def test_a_part_replaces_its_own_rows_and_keeps_the_others(benchmarks, tmp_path):
    import run

    path = tmp_path / "results.md"
    row = lambda what, part: run.line((what, 1.0, "7 images/s", 2.0), part, 2)  # noqa: E731
    run.write(path, "bank", [row("old bank", "bank")])
    run.write(path, "loop", [row("loop 1", "loop"), row("loop 2", "loop")])
    run.write(path, "bank", [row("new bank", "bank")])
    found = [line.split(" | ")[0].removeprefix("| ") for line in run.rows_of(path)]
    assert found == ["loop 1", "loop 2", "new bank"]
    assert all("`python benchmarks/run.py" in line and "2 threads" in line for line in run.rows_of(path))
    text = path.read_text()
    run.write(path, "bank", [row("new bank", "bank")])
    assert path.read_text() == text


def test_the_bank_part_finds_the_losses_of_teachers_on_the_fly(benchmarks, monkeypatch, tmp_path):
    import loop

    monkeypatch.setattr(loop, "ARCHITECTURES", ("resnet18", "mobilenet_v2"))
    monkeypatch.setattr(loop, "BATCH", 16)
    monkeypatch.setattr(loop, "alternately", lambda ours, theirs, rounds=1: (ours() and 1.0, theirs() and 2.0))
    first, second = loop.bank_rows(tmp_path, images=64)
    assert float(first.what.split("of a loss ")[1].rstrip(")")) < 1e-5
    assert first.ratio == 2.0 and second.ratio < 2.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_part_starts_without_notebook_tools_and_says_what_it_needs(tmp_path):
    blocked = (
        "papermill jupyterlab nbclient nbconvert IPython ray pydantic seaborn matplotlib torchattacks torchdistill"
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked.split()!r})); sys.path.insert(0, 'benchmarks'); "
        "import gpu; gpu.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode == 1 and done.stderr == "Error: no CUDA device is here; benchmarks/run.py measures on the CPU\n"
    )


def test_backends_are_compared_by_their_bits_as_well(benchmarks, monkeypatch, tmp_path):
    import backends

    found = {
        "loky": (4.0, {"a": "1", "b": "2"}),
        "one": (8.0, {"a": "1", "b": "3"}),
        "ray": (4.4, {"a": "1", "b": "2"}),
    }
    monkeypatch.setattr(backends, "_teachers", lambda profile, folder, engine: found[folder.name.rstrip("0123456789")])
    monkeypatch.setattr(backends, "_node_lost", lambda folder: backends.Row("lost", 2.0, 1.0, 0.5))
    one, ray, lost = backends.rows(tmp_path)
    assert one.what.endswith("(same bits in 1 of 2 runs)") and one.ratio == 2.0
    assert ray.what.endswith("(same bits)") and ray.ratio == 4.0 / 4.4 and lost.ratio == 0.5


def test_teachers_of_a_backend_are_those_of_any_other(benchmarks, tiny_sections, monkeypatch, tmp_path):
    import backends

    load = backends.Study.load
    monkeypatch.setattr(
        backends.Study, "load", lambda profile, engine: load(profile, **tiny_sections(tmp_path, engine=engine))
    )
    seconds, made = backends._teachers("smoke", tmp_path / "one", {"backend": "inline"})
    assert seconds > 0 and len(made) == 4 and len(set(made.values())) == 4


def test_an_unknown_part_is_refused(benchmarks):
    import run

    assert CliRunner().invoke(run.main, ["bnak"]).exit_code == 2


def test_the_way_of_the_data_is_rehearsed_and_compared_in_both_official_layouts(benchmarks, tmp_path):
    import data_path

    data_path.make_layouts(tmp_path / "raw", share=0.004)
    for source in ("isic2019", "nih"):
        assert len(data_path.rehearse(source, tmp_path)) == 5
        rows = data_path.compare(source, tmp_path / "raw", 16, tmp_path / "compared", 1)
        assert len(rows) == 5 and all(ratio > 0 for *_, ratio in rows)
