"""Parameters: every profile loads, Section IV-B is as printed, and whatever is wrong is named in one line."""

import pytest
import yaml

from rosutils import InputError, params
from rosutils.paper.readings import departures


FILES = sorted(path for path in params.FOLDER.glob("*.yaml") if path.stem != "published")
SECTION_IV_B = {
    "subsets.count": 5, "subsets.overlap": 0.4, "data.fractions": [0.7, 0.1, 0.2],
    "teachers.architectures": ["resnet18", "resnet34", "resnet50", "mobilenet_v2", "densenet121"],
    "training.momentum": 0.9, "training.weight_decay": 2e-4, "training.learning_rate": 0.1, "training.epochs": 50,
    "training.batch_size": 64, "training.milestones": [25, 40], "distillation.student": "resnet18",
    "distillation.single_teacher": "densenet121", "distillation.temperature": 0.5, "distillation.alpha": 0.9,
    "distillation.averaging_start": 10,
}  # fmt: skip


def wrong(profile="smoke", **sections) -> str:
    with pytest.raises(InputError) as error:
        params.load(profile, **sections)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_profile_loads_by_name_and_by_path_and_survives_the_way_to_a_worker(path):
    loaded = params.load(path.stem)
    assert loaded.profile == path.stem in params.profiles()
    assert loaded == params.load(path) == params.load(str(path))
    assert params.Parameters.model_validate_json(loaded.model_dump_json()) == loaded


def test_the_paper_profile_is_section_iv_b_as_printed():
    paper = params.flat(params.load("paper").model_dump())
    assert {key: paper[key] for key in SECTION_IV_B} == SECTION_IV_B
    assert {paper[f"data.sources.{task}.source"] for task in ("lesion", "chest")} == {"isic2019", "nih"}
    assert paper["data.pixels"] == 224 and not paper["data.allow_missing"]


def test_the_paper_profile_names_every_parameter_that_decides_a_result():
    written = yaml.safe_load((params.FOLDER / "paper.yaml").read_text())
    whole = params.load("paper").model_dump()
    assert written.keys() == whole.keys()
    for name in set(whole) - {"profile", "tasks", "data", "engine", "noise"}:
        assert written[name].keys() == whole[name].keys(), name
    assert whole["data"].keys() - written["data"].keys() == {"root", "examples"}
    text = (params.FOLDER / "paper.yaml").read_text()
    assert all(word in text for word in ("not stated", "IV-A", "IV-B", "Table II", "Table III", "Fig. 4"))


def test_sections_are_laid_over_key_by_key_and_the_rest_stays():
    base, changed = params.load("smoke").model_dump(), params.load("smoke", distillation={"alpha": 0.5}).model_dump()
    assert changed["distillation"].pop("alpha") == 0.5 and base["distillation"].pop("alpha") == 0.9
    assert changed == base
    deep = params.load("smoke", data={"sources": {"lesion": {"examples": 7}}}).data
    assert deep.sources["lesion"].examples == 7 and deep.sources["lesion"].modality == "dermoscopy"
    assert deep.sources["chest"].examples == 96 and deep.pixels == 36
    assert params.load("smoke", distillation={}, training=None) == params.load("smoke")


def test_whole_sections_need_no_file():
    sections = params.load("smoke").model_dump()
    sections.pop("profile")
    assert params.load("mine", **sections) == params.load("smoke").model_copy(update={"profile": "mine"})


@pytest.mark.parametrize(
    "sections, named",
    [
        ({"subsets": {"overlap": 1.4}}, ["subsets.overlap", "1.4", "less than or equal to 1"]),
        ({"subsets": {"overlap": "0.4"}}, ["subsets.overlap", "'0.4'", "number"]),
        ({"subsets": {"overlap": float("nan")}}, ["subsets.overlap", "nan"]),
        ({"subsets": {"scheme": "own-shards"}}, ["subsets.scheme", "own-shards", "shared-core", "sliding-window"]),
        ({"subsets": {"overlp": 0.4}}, ["subsets.overlp", "unknown key", "mean 'overlap'", "count, overlap, scheme"]),
        ({"disillation": {"alpha": 0.5}}, ["disillation", "unknown key", "did you mean 'distillation'"]),
        ({"architecture": "resnet19"}, ["architecture: unknown key", "teachers"]),
        ({"teachers": {"architectures": ["resnet19"] * 5}}, ["architectures.0", "resnet19", "resnet18", "densenet121"]),
        ({"teachers": {"architectures": []}}, ["teachers.architectures", "at least 1"]),
        ({"distillation": {"temperature": 0}}, ["distillation.temperature", "0", "greater than 0"]),
        ({"distillation": {"reinforced": {"rewards": 1}}}, ["reinforced.rewards", "did you mean 'reward'"]),
        ({"distillation": 0.5}, ["distillation", "0.5"]),
        ({"noise": [1]}, ["noise", "[1]"]),
        ({"training": {"epochs": 2.5}}, ["training.epochs", "2.5", "integer"]),
        ({"training": {"batch_size": 1}}, ["training.batch_size", "1", "2"]),
        ({"training": {"milestones": [0]}}, ["training.milestones.0", "0"]),
        ({"training": {"augmentation": {"flips": ["diagonal"]}}}, ["augmentation.flips.0", "diagonal", "vertical"]),
        ({"data": {"pixels": 8}}, ["data.pixels", "8", "16"]),
        ({"data": {"fractions": [0.7, 0.2, 0.2]}}, ["fractions", "0.7, 0.2, 0.2", "sum to 1"]),
        ({"data": {"fractions": [0.8, 0.2, 0.0]}}, ["fractions", "positive"]),
        ({"data": {"fractions": [0.7, 0.3]}}, ["data.fractions", "0.7, 0.3", "3"]),
        ({"data": {"sources": {"lesion": {"sorce": "nih"}}}}, ["data.sources.lesion.sorce", "did you mean 'source'"]),
        ({"data": {"sources": {"lesion": {"source": "isic"}}}}, ["sources.lesion.source", "isic", "isic2019", "nih"]),
        ({"data": {"sources": {"lesion": {"examples": None}}}}, ["synthetic", "examples"]),
        ({"seeds": {"data": 1_790_000_000_000_000_000}}, ["seeds.data", "1000000000"]),
        ({"seeds": {"replicates": 0}}, ["seeds.replicates", "greater than or equal to 1"]),
        ({"by_task": {"skin": {}}}, ["by_task", "skin", "lesion"]),
        ({"engine": {"workers": 0}}, ["engine.workers", "0", "auto"]),
        ({"tasks": ["lesion", "skin"]}, ["skin", "chest", "lesion"]),
        ({"tasks": "lesion"}, ["tasks", "lesion", "list"]),
        # what would only fail late
        ({"training": {"augmentation": {"pad": 36}}}, ["training.augmentation.pad is 36, but data.pixels is 36"]),
        ({"training": {"learning_rate": float("inf")}}, ["training.learning_rate: inf is not allowed"]),
        ({"training": {"learning_rate": "1e-4"}}, ["write 1.0e-4"]),
        ({"data": {"sources": {"lesion": {"lists": {"train": "a"}}}}}, ["data.sources.lesion: lists needs all three"]),
        ({"data": {"sources": {"lesion": {"split": "chexnet"}}}}, ["split chexnet does not exist for the source synthetic"]),
        ({"data": {"sources": {"lesion": {"group": "who"}}}}, ["group is a key of the source folder, not of synthetic"]),
        ({"data": {"sources": {"lesion": {"revision": 2017}}}}, ["revision is a key of the source nih, not of synthetic"]),
        ({"tasks": ["lesion", "lesion"]}, ["tasks: it holds lesion twice"]),
        ({"attacks": {"norms": ["linf", "linf"]}}, ["attacks.norms: it holds linf twice"]),
        ({"attacks": {"eps": 1e-30}}, ["attacks.eps: 1e-30 is not allowed"]),
        ({"landscape": {"directions": [0, 0]}}, ["landscape.directions: it holds 0 twice"]),
        ({"sweeps": {"overlaps": [0.1234561, 0.1234562]}}, ["sweeps.overlaps: it holds 0.123456 twice, as it is printed"]),
        ({"sweeps": {"noise": {"pairflip": [0.4, 0.4]}}}, ["sweeps.noise.pairflip: it holds 0.4 twice"]),
        # sections that do not fit each other
        ({"subsets": {"count": 5}}, ["teachers.architectures has 3", "subsets.count is 5"]),
        ({"teachers": {"architectures": ["mobilenet_v2"] * 3}}, ["single_teacher", "resnet18", "teachers.architectures"]),
        ({"distillation": {"temperature": 1e-9}}, ["temperature is 1e-09", "0.001"]),
        ({"distillation": {"averaging_start": 2}}, ["averaging_start is 2", "epochs is 2", "smaller"]),
        ({"data": {"pixels": 32}}, ["data.pixels is 32", "33 to 1024", "padding", "medmnist"]),
        ({"landscape": {"sharpness_radius": 0.002}}, ["sharpness_radii is [0.001,", "sharpness_radius (0.002)"]),
        ({"landscape": {"sharpness_radii": []}}, ["sharpness_radii is []", "(0.001)"]),
        ({"landscape": {"sharpness_radii": [0.001, 0.01, 0.001]}}, ["sharpness_radii", "no radius twice"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_value_and_what_is_allowed(sections, named):
    message = wrong(**sections)
    assert [part for part in named if part not in message] == []


def test_smaller_images_are_allowed_where_all_are_of_medmnist():
    """They are framed, so that no weight of a ResNet sees padding alone."""
    assert params.load("medmnist").data.pixels == 28
    mixed = {"other": {"source": "synthetic", "modality": "dermoscopy", "examples": 60}}
    with pytest.raises(InputError, match="data.pixels is 28"):
        params.load("medmnist", tasks=["lesion", "other"], data={"sources": mixed})
    assert params.load("smoke", data={"pixels": 33}).data.pixels == 33


@pytest.mark.parametrize(
    "text, named",
    [
        ("- a\n- b", ["my.yaml", "found list"]), ("a: [b", ["my.yaml", "not valid YAML"]), ("", ["my.yaml", "found NoneType"]),
        ("profile: my\ntasks: [a]\ndata: {pixels: 32, sources: {}}\n",
         ["teachers: this key is missing", "training: this key is missing"]),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_sections_or_lacks_some_is_told(tmp_path, text, named):
    (tmp_path / "my.yaml").write_text(text)
    message = wrong(tmp_path / "my.yaml")
    assert [part for part in named if part not in message] == []


@pytest.mark.parametrize("profile", sorted({*params.profiles()} - {"smoke"}))  # smoke tests the kit, not the method
def test_no_profile_departs_in_what_makes_the_method(profile):
    departing = {key for key, _, _ in departures(params.load(profile), params.load("paper"))}
    method = (
        "subsets.count", "subsets.overlap", "subsets.scheme", "teachers.architectures", "data.fractions",
        "distillation.temperature", "distillation.alpha", "distillation.student", "distillation.weights.normalize",
    )  # fmt: skip
    lighter = {"teachers.architectures"} if profile == "demo" else set()  # minutes on two cores; its report says so
    assert departing.isdisjoint(set(method) - lighter)


def test_one_source_on_its_own_is_checked_as_in_a_file():
    assert params.source({"source": "folder", "labels": ["a", "b"]}).multilabel
    assert not params.source({"source": "folder", "label": "dx"}).multilabel
    for options, says in (
        ({"one_hot": True}, "one_hot is about the columns labels"),
        ({"label": "dx", "labels": ["a", "b"]}, "label .dx. and labels exclude each other"),
        ({"table": "a\0b"}, "is no path"),
    ):
        with pytest.raises(InputError, match=says):
            params.source({"source": "folder", **options})
    with pytest.raises(InputError, match="lable: unknown key .did you mean .*; allowed here: source, "):
        params.source({"source": "folder", "lable": "dx"})


def test_a_label_names_what_was_laid_over_and_not_where_it_runs():
    def label(**sections):
        return params.label("demo", params.load("demo", **sections))

    assert label() == label(engine={"workers": 1}) == label(data={"root": "x"}) == "demo"
    assert label(distillation={"alpha": 0.5}) == "demo+alpha0.5"
    assert label(distillation={"alpha": 0.9}) == "demo", "as in the file"
    assert label(distillation={"alpha": 0.5}, seeds={"replicates": 2}) == "demo+alpha0.5+replicates2"
    long = label(data={"sources": {"lesion": {"source": "folder", "labels": [f"finding {n}" for n in range(20)]}}})
    assert len(long) <= params.LONGEST_LABEL and "/" not in long and long.startswith("demo+")


def test_a_persons_file_under_the_name_of_one_of_the_kits_has_a_folder_of_its_own(tmp_path):
    text, path = (params.FOLDER / "demo.yaml").read_text(), tmp_path / "mine.yaml"
    path.write_text(text)
    assert params.label(path, params.load(path)) == "demo"
    path.write_text(text.replace("alpha: 0.9", "alpha: 0.5"))
    assert params.label(path, params.load(path)) == "demo+alpha0.5"


def test_the_label_of_a_study_is_taken_for_its_name(tmp_path):
    whole = params.load("smoke", distillation={"alpha": 0.5}).model_dump(exclude={"profile"})
    assert params.label("smoke+alpha0", params.load("smoke+alpha0", **whole)) == "smoke+alpha0"


def test_sections_in_a_notebook_are_its_dicts_and_lists_and_a_misspelt_one_is_refused():
    sections = {"distillation": {"alpha": 0.5}, "tasks": ["lesion"]}
    assert params.sections_in({"profile": "smoke", **sections, "attacks": params, "_": [], "found": []}) == sections
    with pytest.raises(InputError, match="distilation: unknown key.*did you mean 'distillation'"):
        params.sections_in({"distilation": {"alpha": 0.5}})


def test_a_name_that_papermill_gave_and_nobody_reads_is_refused():
    cells = ["", "overlap = 1.0", "# Parameters\nprofile = 'smoke'\nsubsets = {'overlap': 1.0}\n"]
    mine = {"In": cells, "overlap": 1.0}
    assert params.sections_in(mine) == {}  # what a person named so is no business of ours
    with pytest.raises(InputError, match="overlap: unknown key.*given as"):
        params.sections_in({"In": ["# Parameters\noverlap = 1.0\n"], "overlap": 1.0})
