"""Adversarial examples: within the radius, what the models really say, and no picture of a data set among the figures."""

from types import SimpleNamespace

import numpy as np
import pytest
import rows  # noqa: F401 (the look of figures)
import torch

from rosutils import training
from rosutils.paper import adversarial
from rosutils.settings import SAME_TEACHERS
from rosutils.study.needs import probe_of


@pytest.fixture(scope="module")
def found(probed):
    return adversarial.examples(probed, "lesion")


def test_images_move_by_no_more_than_the_radius_and_the_answers_are_the_models(probed, found):
    section = probed.parameters.attacks
    assert list(found) == list(SAME_TEACHERS)
    for name, each in found.items():
        assert 0 < np.abs(each.after - each.before).max() <= section.eps + 1e-6
        spec = probe_of(probed, "attack", "lesion", name)
        batches = list(probed.loader(spec, probed.sample("lesion", section.examples)[: adversarial.ASKED]))
        logits = training.predict(probed.model(spec.of, spec.state), batches)[0]
        assert np.allclose(each.said, torch.softmax(logits.double(), 1), atol=1e-6)
        kept = probed.run(spec).tensors("logits")["before"][: len(logits)]
        assert torch.allclose(logits, kept, atol=1e-5)


def test_the_images_that_move_the_answers_most_are_shown_with_what_was_added():
    before, said = np.full((5, 1, 4, 4), 0.5), np.tile([0.6, 0.3, 0.1], (5, 1))
    after, then = before.copy(), said.copy()
    after[3, 0, 0, 0] += 0.1
    then[3] = [0.2, 0.5, 0.3]
    each = {"RoS-KD": adversarial.Attacked(before, after, said, then)}

    axes = adversarial.plot(each, ["no", "yes", "both"], eps=0.1, title="lesion: PGD").axes
    assert len(axes) == 3 * adversarial.SHOWN
    assert axes[2].get_title(loc="left") == "no 0.60 → 0.20"
    added = axes[1].images[0].get_array()
    assert added[0, 0] == pytest.approx(1.0) and added[1:].tolist() == np.full((3, 4), 0.5).tolist()


def test_pictures_of_a_data_set_do_not_go_among_the_figures(tmp_path):
    sources = {"lesion": SimpleNamespace(source="synthetic"), "chest": SimpleNamespace(source="nih")}
    parameters = SimpleNamespace(tasks=list(sources), data=SimpleNamespace(sources=sources))
    folders = {"figures": tmp_path / "figures", "output": tmp_path / "output"}
    study = SimpleNamespace(parameters=parameters, watermark=lambda: "mark", note=lambda *which: None, **folders)
    one = adversarial.Attacked(*[np.zeros((1, 1, 4, 4))] * 2, *[np.ones((1, 2))] * 2)

    def make(study, task):
        return adversarial.plot({"RoS-KD": one}, "ab", eps=0.1, title=task)

    adversarial.FIGURE._replace(make=make).publish(study)
    assert {path.name for path in study.figures.iterdir()} == {"adversarial_lesion.pdf", "adversarial_lesion.png"}
    assert {path.name for path in study.output.iterdir()} == {"adversarial_chest.pdf", "adversarial_chest.png"}
    assert adversarial.FIGURE.pictures(study) == ["adversarial_lesion"]
