"""The figures of the report in their order, grouped under the paper's items."""

from fnmatch import fnmatchcase
from pathlib import Path


# Heading, notebook that draws them, and (file name or a pattern where each task has one, title, caption).
GROUPS = (
    ("Fig. 1: the method", "01_data", (
        ("fig1", "Fig. 1, drawn from what ran", "Actual index sets, draws of the weights and (filled) averaged epochs."),
    )),
    ("Fig. 2: student architectures", "05_figures", (
        ("fig2", "Fig. 2, students", "F1 of each student under Baseline III and RoS-KD; bars: one standard deviation."),
    )),
    ("Fig. 3: overlap of the subsets", "05_figures", (
        ("fig3", "Fig. 3, overlap", "F1 of RoS-KD against the overlap, teachers retrained at each ratio; band: Baseline III."),
    )),
    ("Fig. 4: loss landscape", "07_loss_landscape", (
        ("fig4_*", "Fig. 4, contours", "Loss around both students, same directions and images; clamped as in the paper, and not."),
        ("fig4_surface_*", "Fig. 4, surfaces", "The same loss as a surface over the plane of the two directions."),
        ("landscape", "Numbers of the landscape", "Basin area at fixed rises of the loss, and what stands beside it."),
        ("path_*", "From Baseline III to RoS-KD", "Loss on the straight line between the two students' weights."),
    )),
    ("Table I: settings", "04_tables", (
        ("table1", "Table I as dots", "F1 on the test part beside the printed F1 (hollow); bars: one standard deviation."),
    )),
    ("Table II: attacks", "06_adversarial", (
        ("table2", "Table II as dots", "F1 before and after FGSM and PGD for the three readings of the radius."),
        ("eps_curve", "F1 against the radius", "PGD at multiples of 1.28/255, for every setting of Table I."),
    )),
    ("Readings: what the paper leaves open", "05_figures", (
        ("readings", "Readings, one at a time", "How far each reading moves RoS-KD's F1 from the one chosen here."),
    )),
    ("Label noise (beyond the paper)", "08_label_noise", (
        ("noise_f1", "F1 against label noise", "F1 on the test part against the measured share of changed training labels."),
        ("noise_auroc", "AUROC against label noise", "The same, mean AUROC over the classes."),
        ("agreement", "Agreement with the labels", "Teachers and students beside the clean and the given training labels."),
    )),
    ("Data", "01_data", (
        ("class_counts_*", "Classes", "Images per class in each part of the split, before any label noise."),
        ("checks_*", "Images", "Sizes in the files, and mean intensity of the training images of each class."),
        ("noise_*", "Label noise", "What was done to the labels of the training part; validation and test keep theirs."),
        ("overlap_*", "Overlap", "Share of the row's subset that the column's teacher has seen as well."),
    )),
    ("Teachers", "02_teachers", (
        ("teacher_curves_*", "Teachers in training", "Loss of training and validation part, and validation F1."),
        ("teachers", "Teachers", "F1 on the test part, trained on the full set and on the teacher's own subset."),
    )),
    ("Distillation, step by step", "03_distillation", (
        ("soft_targets", "Eq. 3", "One teacher's soft targets for one training image; the paper uses τ = 0.5."),
        ("weights", "Random weights", "The paper says that one teacher at a time matters; how often the draws agree."),
        ("selection", "Baseline IV, planted teachers", "Whom it selects where one teacher of three is good; lines: 0.2, 0.8."),
        ("averaging", "Eq. 1", "Validation F1 of the student (Baseline V) and of the average of its epochs (RoS-KD)."),
    )),
)  # fmt: skip
PICTURES = tuple(picture for _, _, pictures in GROUPS for picture in pictures)


def pictures(folder: str | Path) -> list[tuple[Path, str, str]]:
    """The known figures among the png files of a folder, in the order of the report: (path, title, caption)."""
    found = sorted(Path(folder).glob("*.png"))
    return [
        (path, title, caption) for name, title, caption in PICTURES for path in found if pattern_of(path.stem) == name
    ]


def pattern_of(name: str) -> str | None:
    """The most particular entry of PICTURES that a file name (without suffix) belongs to: "noise_f1", not "noise_*"."""
    return max((pattern for pattern, _, _ in PICTURES if fnmatchcase(name, pattern)), key=len, default=None)


def notebook_of(name: str) -> str:
    """The notebook that draws a figure; nothing for an unknown one."""
    pattern = pattern_of(name)
    return next((book for _, book, known in GROUPS if pattern in [entry[0] for entry in known]), "")


def grouped(figures: list[dict]) -> list[dict]:
    """Figures ({"name": ...}, in any order) under their headings: {"title", "notebook", "figures"}; unknown ones last."""
    groups = []
    for title, notebook, known in GROUPS:
        names = [name for name, _, _ in known]
        here = [figure for name in names for figure in figures if pattern_of(figure["name"]) == name]
        groups.append({"title": title, "notebook": notebook, "figures": here})
    others = [figure for figure in figures if pattern_of(figure["name"]) is None]
    groups.append({"title": "More", "notebook": "", "figures": others})
    return [group for group in groups if group["figures"]]
