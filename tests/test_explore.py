"""The widgets: what they show is what the study has stored and what the method's own functions say; without anybody, pictures."""

import base64
import inspect
import io

import ipywidgets
import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.formatters import DisplayFormatter
from matplotlib.backend_bases import MouseButton, MouseEvent
from matplotlib.figure import Figure
from PIL import Image

from rosutils import InputError, explore, losses
from rosutils.paper import look
from rosutils.study.variants import Variant
from rosutils.weights import exponential_weights


WIDGETS = ("subsets", "images", "mixture", "averages", "attack", "contours", "wrong_labels")


@pytest.fixture
def shown(monkeypatch) -> list:
    """What is displayed, with nobody at the kernel."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    found = []
    monkeypatch.setattr(explore, "display", lambda *things: found.extend(things))
    return found


@pytest.fixture
def played(shown, monkeypatch) -> list:
    """What is displayed where somebody sits at the kernel: Jupyter's server sets this."""
    monkeypatch.setenv("JPY_SESSION_NAME", "01_data.ipynb")
    return shown


def controls(playing) -> dict:
    row = playing.box.children[0]
    return {each.description or "hidden": each for each in row.children}


def picture(playing) -> str:
    return playing.box.children[1].value


def drawn(name: str, *arguments):
    """The function that draws a widget's picture, which a slider calls, and the widget's controls."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explore, "play", lambda draw, says, **controls: calls.append((look.style()(draw), controls)))
        getattr(explore, name)(*arguments)
    return calls[0]


@pytest.mark.parametrize("name", [*WIDGETS, "surface"])
def test_with_nobody_at_the_kernel_a_widget_is_a_picture(probed, shown, name):
    getattr(explore, name)(probed, "chest")
    assert len(shown) >= 1 and all(isinstance(thing, Figure) for thing in shown)


@pytest.mark.parametrize("name", WIDGETS)
def test_with_somebody_there_it_has_controls_and_each_of_them_changes_what_is_seen(probed, played, name):
    getattr(explore, name)(probed, "lesion")
    [playing] = played
    found = controls(playing)
    assert "alt=" in picture(playing) and len(found) >= 1
    for word, control in found.items():
        before = picture(playing)
        if isinstance(control, ipywidgets.Dropdown):
            control.value = control.options[(control.index + 1) % len(control.options)]
        else:
            control.value = control.min if control.value != control.min else control.max
        assert picture(playing) != before or word in ("images", "page", "per", "number", "noise"), word


def test_the_picture_in_a_widgets_place_is_in_what_a_saved_notebook_keeps_of_it(probed, played):
    explore.images(probed, "lesion")
    data, _ = DisplayFormatter().format(played[0])
    assert "application/vnd.jupyter.widget-view+json" in data
    image = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert image.format == "PNG" and image.width == round(2 * 120 * look.WIDTH)  # sharp at twice the pixels


def test_without_the_packages_a_widget_is_a_picture(probed, played, monkeypatch):
    monkeypatch.setattr(explore, "find_spec", lambda asked: None if asked == "ipympl" else object())
    explore.images(probed, "lesion")
    assert isinstance(played[0], Figure)


def test_what_cannot_be_drawn_is_said_in_the_pictures_place(played):
    def draw(k: int = 1) -> Figure:
        if k > 2:
            raise InputError("k is <3>")
        return look.subplots(size=(1, 1))[0]

    explore.play(draw, "nothing", k=(1, 3))
    controls(played[0])["k"].value = 3
    assert picture(played[0]) == "<p>k is &lt;3&gt;</p>"


@pytest.mark.filterwarnings("ignore:Passing unrecognized arguments to super.Toolbar:DeprecationWarning")  # ipympl's own
def test_a_surface_is_turned_with_the_mouse_both_at_once_and_its_directions_chosen(probed, played):
    backend = matplotlib.get_backend()
    explore.surface(probed, "lesion")
    assert matplotlib.get_backend() == backend  # ipympl would draw all other figures as well
    words, playing = played
    menu, canvas = playing.box.children
    assert menu.options == (0, 1) and "drag" in words.value
    canvas.figure.draw_without_rendering()
    first, second = canvas.figure.axes[:2]
    before, [[x0, y0], [x1, y1]] = (first.elev, first.azim), first.bbox.get_points()
    for name, x in (("button_press_event", x0), ("motion_notify_event", x1)):
        event = MouseEvent(name, canvas, (x0 + x) / 2 + 5, (y0 + y1) / 2, button=MouseButton.LEFT)
        canvas.callbacks.process(name, event)
    assert (second.elev, second.azim) == (first.elev, first.azim) != before
    menu.value = 1
    assert "seed 1" in playing.box.children[1].figure._suptitle.get_text()


def test_subsets_first_picture_is_the_studys_own_and_k_p_and_scheme_change_it(probed):
    draw, _ = drawn("subsets", probed, "lesion")
    k = probed.parameters.subsets.count

    def matrix(figures):
        return [float(text.get_text()) for text in figures[1].axes[0].texts]

    from_study = np.round(explore.overlap_matrix(probed.subsets("lesion")).numpy().ravel(), 2)
    assert matrix(draw()) == pytest.approx(from_study)
    assert len(matrix(draw(k=k + 1))) == (k + 1) ** 2
    assert matrix(draw(p=1.0)) == [1.0] * k**2
    assert matrix(draw(p=0.0)) == list(np.eye(k).ravel())
    with pytest.raises(InputError):
        draw(p=1.5)


def test_images_show_each_training_image_of_a_class_once_with_what_it_is_in_truth(probed):
    draw, _ = drawn("images", probed, "lesion")
    data, seen = probed.task("lesion"), 0
    train = data.split["train"]
    for page in range(1, 9):
        fig = draw(label=data.class_names[1], by="clean", page=page)
        titles = [ax.get_title(loc="left") for ax in fig.axes if ax.images]
        count = int((data.clean_labels[train] == 1).sum())
        if page > 1 and fig._suptitle.get_text().endswith("from number 1"):
            break
        seen += len(titles)
        wrong = [text for text in titles if "in truth" in text]
        assert all(text.endswith(f"in truth {data.class_names[1]}") for text in wrong)
    assert seen == count


@pytest.fixture(scope="module")
def mixed(probed):
    draw, _ = drawn("mixture", probed, "lesion")
    spec = probed.student("lesion", "RoS-KD")
    index = probed.task("lesion").split["train"][: explore.SHOWN]
    batch = next(iter(probed.loader(spec, index, augmented=True)))
    with torch.inference_mode():
        student = probed.model(spec, "averaged")(batch.images).double()
    return draw, probed, spec, batch, student


@settings(max_examples=8)
@given(st.integers(1, 60), st.sampled_from([0.25, 0.5, 4.0]), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5))
def test_the_parts_of_the_loss_add_up_to_eq_4(mixed, number, τ, α, redraw):
    draw, there, spec, batch, student = mixed
    fig = draw(image=number, τ=τ, α=α, per="iteration", redraw=redraw)[1]
    bars = [patch.get_width() for patch in fig.axes[1].patches]
    place = (number - 1) % len(batch.index)
    generator = torch.Generator().manual_seed(spec.seed + redraw)
    w = exponential_weights(len(spec.teachers), generator=generator).double()
    opinions = there.bank(spec)(batch)[:, [place]].double()
    options = {"temperature": τ, "alpha": α, "multilabel": False}
    wanted = losses.distillation_loss(student[[place]], opinions, batch.labels[[place]], w, **options)
    assert sum(bars) == pytest.approx(wanted.item(), rel=1e-5, abs=1e-9)
    assert α > 0 or sum(bars[:-1]) == 0


def test_a_draw_per_iteration_is_the_same_for_all_images_and_one_per_example_is_not(mixed):
    draw, _, spec, *_ = mixed

    def weights(**how):
        return [ax.get_title(loc="left").split("w = ")[1] for ax in draw(**how)[0].axes[1:]]

    assert weights(image=1, per="iteration") == weights(image=2, per="iteration")
    assert weights(image=1, per="example") != weights(image=2, per="example")
    assert weights(redraw=0) != weights(redraw=1)
    assert len(weights()) == len(spec.teachers)


def test_the_images_with_wrong_labels_can_be_looked_at_alone(mixed):
    draw, study, *_ = mixed
    assert all("in truth" in draw(images="wrong labels", image=n)[0]._suptitle.get_text() for n in range(1, 6))


def test_without_weights_in_the_store_a_line_says_so(probed, shown, monkeypatch, capsys):
    class Released:
        released = True

    monkeypatch.setattr(type(probed), "run", lambda study, spec: Released())
    explore.mixture(probed, "lesion")
    explore.attack(probed, "lesion")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("nothing to play with" in line for line in said) and shown == []


def test_the_average_after_an_epoch_holds_the_epochs_so_far_evenly(probed):
    draw, chosen = drawn("averages", probed, "lesion")
    start = probed.parameters.distillation.averaging_start
    for epoch in range(1, chosen["epoch"][1] + 1):
        shares = [patch.get_height() for patch in draw(epoch=epoch).axes[0].patches]
        counted = max(epoch - start, 0)
        assert shares == pytest.approx([1 / counted if start <= e < epoch else 0 for e in range(len(shares))])


def test_curves_are_the_histories_of_the_runs_that_are_there(probed):
    draw, chosen = drawn("curves", probed, "table1", "RoS-KD; lesion")
    spec = probed.student("lesion", "RoS-KD")
    lines = {line.get_label(): list(line.get_ydata()) for ax in draw().axes for line in ax.lines}
    history = probed.run(spec).table("history")
    assert lines["training"] == list(history["loss"])
    assert lines["average"][-1] == history["averaged_validation_f1"].iloc[-1]
    for m, teacher in enumerate(spec.teachers, 1):
        assert lines[look.architecture_name(probed.name_of(teacher))] == list(history[f"divergence_{m}"])
    assert any(name.startswith("Baseline I;") for name in chosen["run"])


def test_an_attack_stays_in_its_ball_and_a_radius_of_nothing_changes_nothing(probed):
    draw, _ = drawn("attack", probed, "lesion")
    for ε in (0.0, 2.0, 8.0):
        clean, _, hurt, said = draw(ε=ε).axes
        change = np.abs(np.asarray(hurt.images[0].get_array()) - np.asarray(clean.images[0].get_array())).max()
        assert change <= ε / 255 + 1e-6 and (change > 0) == (ε > 0)
        before, after = (np.array([patch.get_width() for patch in group]) for group in said.containers)
        assert np.allclose(before, after) == (ε == 0) and before.sum() == pytest.approx(1)


def test_contours_tell_the_share_of_the_stored_points_within_the_rise(probed):
    draw, chosen = drawn("contours", probed, "lesion")
    assert chosen["directions"] == [0, 1]
    fig = draw(directions=1, rise=0.5)
    said = {text.get_text() for text in fig.legends[0].get_texts()}
    for plane in explore.fig4.surfaces(probed, "lesion"):
        if plane["seed"] == 1:
            middle = plane["loss"][(len(plane["grid"]) // 2,) * 2]
            share = (plane["loss"] - middle <= 0.5).mean()
            assert f"{plane['setting']}: {share:.0%} of the points" in said


def test_who_believes_a_wrong_label_is_what_the_networks_say(probed):
    draw, chosen = drawn("wrong_labels", probed, "lesion")
    there = probed.variants[Variant("symmetric", "0.4")]
    assert chosen["noise"] == ["symmetric 0.4", "pairflip 0.4", "as everywhere"]
    data, train = there.task("lesion"), there.task("lesion").split["train"]
    place = int((data.labels[train] != data.clean_labels[train]).nonzero()[2])
    logits = there.run(explore.probe_of(there, "agreement", "lesion", "RoS-KD")).tensors("logits")["train"][place]
    right = draw(number=3).axes[1]
    row = [text.get_text() for text in right.get_yticklabels()].index("RoS-KD")
    bars = [group[row].get_width() for group in right.containers]
    p = logits.double().softmax(0)
    assert bars == pytest.approx([p[data.labels[train][place]].item(), p[data.clean_labels[train][place]].item()])


def test_a_teacher_has_seen_what_its_subset_holds(probed):
    seen, train = explore._seen(probed, "lesion"), probed.task("lesion").split["train"]
    for marks, subset in zip(seen.values(), probed.subsets("lesion"), strict=True):
        assert train[marks].tolist() == subset.tolist()


def test_titles_say_what_is_wrong_in_red_and_an_image_without_findings_has_words_too(probed):
    chest = probed.task("chest")
    assert explore.words(chest, torch.zeros(chest.n_classes)) == "no finding"
    assert explore.words(chest, torch.eye(chest.n_classes)[1]) == chest.class_names[1]
    data = probed.task("lesion")
    train = data.split["train"]
    wrong = data.labels[train] != data.clean_labels[train]
    for number, colour in ((train[wrong][0], look.RED), (train[~wrong][0], look.INK)):
        said = []
        explore.title(lambda text, color, said=said: said.extend((text, color)), data, int(number))
        assert said[1] == colour and ("in truth" in said[0]) == (colour == look.RED)


def test_source_shows_what_runs_to_the_letter(shown):
    explore.source(losses.soft_targets, losses.task_loss)
    assert shown[0].data == inspect.getsource(losses.soft_targets) + "\n\n" + inspect.getsource(losses.task_loss)
