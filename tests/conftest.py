"""What several test files share: one thread per test, and studies small enough to be trained in seconds."""

import faulthandler
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import torch
import yaml
from filelock import FileLock

from rosutils.augment import View
from rosutils.bank import Bank, view_logits
from rosutils.data import Loader, Task
from rosutils.params import ROOT
from rosutils.study import Study
from rosutils.study.experiment import weights_needed
from rosutils.study.making import make
from rosutils.study.needs import with_prerequisites


torch.set_num_threads(1)
hypothesis.settings.register_profile("kit", deadline=None)
hypothesis.settings.load_profile("kit")

LONGEST_TEST = 1200  # seconds; a test that hangs ends its process, with a traceback that says where


@pytest.fixture(autouse=True)
def nothing_hangs():
    """A test that waits for ever is a failure that says where, not a run without end."""
    faulthandler.dump_traceback_later(LONGEST_TEST, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


TINY = {
    "tasks": ["lesion"],
    "data": {"sources": {"lesion": {"examples": 80}, "chest": {"examples": 80}}},
    "subsets": {"count": 2},
    "teachers": {"architectures": ["resnet18", "mobilenet_v2"]},
    "training": {"batch_size": 16},
    "distillation": {"single_teacher": "mobilenet_v2"},
    "seeds": {"replicates": 1},
    "sweeps": {"scale": {"training": {"epochs": 3}}, "runs": 1},
}


def lay_over(base: dict, changes: dict) -> dict:
    both = {
        key for key in base.keys() & changes.keys() if isinstance(base[key], dict) and isinstance(changes[key], dict)
    }
    return {**base, **changes, **{key: lay_over(base[key], changes[key]) for key in both}}


@pytest.fixture(scope="session")
def tiny_sections():
    """Sections that cut the smoke profile down, with every file under `folder`."""

    def sections(folder: Path, **changes) -> dict:
        engine = {
            "backend": "inline",
            "keep_weights": "all",
            "store": str(folder / "runs"),
            "artefacts": str(folder / "figures"),
        }
        return lay_over({**TINY, "engine": engine}, changes)

    return sections


@pytest.fixture(scope="session")
def load_tiny(tiny_sections):
    """A tiny study: two teachers, 80 synthetic images, two epochs, one small student per setting."""
    return lambda folder, **changes: Study.load("smoke", **tiny_sections(folder, **changes))


def smoke_engine(folder: Path, **options) -> str:
    """The smoke profile's engine with every file under `folder`, for -y."""
    return yaml.safe_dump({"engine": {"store": str(folder), "artefacts": str(folder / "figures"), **options}})


def copy_of(study: Path, into: Path) -> Path:
    """A study's folder to work in; runs, which are never written to again, are shared with the first."""
    shutil.copytree(
        study / "store", into / "runs/store", copy_function=os.link, ignore=shutil.ignore_patterns(".locks")
    )
    return Path(shutil.copytree(study, into / "runs", ignore=shutil.ignore_patterns("store"), dirs_exist_ok=True))


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> tuple[Path, str, Path]:
    """The whole smoke chain by the command, once for all processes of a test run: its folder, what it printed, and a copy.

    In the copy nobody works: it is for `copy_of`, whatever is done in the first meanwhile.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    copy, printed = folder.with_name("smoke-copy") / "runs", folder.with_name("smoke-printed")
    with FileLock(folder.with_name("smoke.lock")):
        if not printed.is_file():
            command = [sys.executable, "-m", "rosutils", "reproduce", "smoke", "-y", smoke_engine(folder)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
            assert done.returncode == 0, done.stderr
            copy_of(folder, copy.parent)
            printed.write_text(done.stdout)
    return folder, printed.read_text(), copy


@pytest.fixture(scope="session")
def probed(smoke, tmp_path_factory) -> Study:
    """The smoke study in a folder of its own: both tasks, its students attacked, walked around, asked about noisy labels."""
    folder = copy_of(smoke[2], tmp_path_factory.mktemp("probed"))
    return Study.load("smoke", engine={"backend": "inline", "store": str(folder), "artefacts": str(folder / "figures")})


@pytest.fixture
def remade(tmp_path):
    """A study that has what a run is made from, the weights that were released trained again, in a store of its own."""

    def remade(study: Study, spec) -> Study:
        engine = study.parameters.engine.model_copy(update={"store": str(tmp_path)})
        there = replace(study, parameters=study.parameters.model_copy(update={"engine": engine}))
        there.store.root.mkdir()
        *needed, _ = with_prerequisites([spec])
        for each in needed:
            (there.store.root / there.key(each)).symlink_to(study.run(each).path)
        for each in filter(lambda each: study.run(each).released, weights_needed(spec)):
            (there.store.root / there.key(each)).unlink()
            make(there.at(each), each)
        return there

    return remade


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder for studies that train nothing, so that the images are drawn once."""
    return tmp_path_factory.mktemp("shared")


class Net(torch.nn.Module):
    """A few parameters, with what tells train from eval mode: BatchNorm and, if asked for, dropout."""

    def __init__(self, n_classes: int, *, seed: int, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Flatten()]
            self.backbone = torch.nn.Sequential(*layers, torch.nn.Dropout(dropout))
            self.head = torch.nn.Linear(6 * 3 * 3, n_classes)

    def features(self, images):
        return self.backbone(images)

    def forward(self, images):
        return self.head(self.features(images))


@pytest.fixture
def make_net():
    """A small network for images of 8 x 8 pixels, decided by its seed."""
    return Net


@pytest.fixture(params=[False, True], ids=["one label", "several labels"])
def small_task(request) -> Task:
    """120 random images of 8 x 8 pixels in 4 classes, of which 70 are for training."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (120, 3, 8, 8), dtype=torch.uint8, generator=generator).numpy()
    labels = torch.randint(0, 2, (120, 4), generator=generator).float() if request.param else torch.arange(120) % 4
    order = torch.randperm(120, generator=generator)
    split = {"train": order[:70].sort().values, "validation": order[70:80], "test": order[80:]}
    return Task(
        name="small", images=images, labels=labels, clean_labels=labels, groups=torch.arange(120),
        names=[f"{i}" for i in range(120)], class_names=list("abcd"), multilabel=request.param, split=split,
        fingerprint="small", noise_rate=0.0,
    )  # fmt: skip


@pytest.fixture
def bank_and_teachers(small_task, make_net):
    """Three teachers, their bank over three epochs of views, and the loader of a student's batches."""
    view, train = View(seed=1, pad=1, flips=("horizontal",)), small_task.split["train"]
    teachers = [make_net(4, seed=number, dropout=0.5) for number in range(3)]
    in_order = Loader(small_task, train, batch_size=32, view=view)
    bank = Bank(torch.stack([view_logits(teacher, in_order, 3) for teacher in teachers]), train)
    return bank, teachers, Loader(small_task, train, batch_size=16, shuffle_seed=9, view=view)


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder on the path, as for a script in it."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and "benchmarks" in sys.modules[name].__file__:
            del sys.modules[name]
