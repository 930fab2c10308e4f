"""A profile walked through without images: the very runs that there will be, and what is doubtful named."""

import pytest
from click.testing import CliRunner

from rosutils import dryrun, params
from rosutils.__main__ import main
from rosutils.dryrun import Unopened, walk


def walked(profile, **sections) -> str:
    return "\n".join(walk(Unopened.load(profile, **sections)))


def test_it_counts_the_runs_that_the_opened_study_has(load_tiny, shared_folder, tiny_sections):
    opened = load_tiny(shared_folder)
    unopened = Unopened.load("smoke", **tiny_sections(shared_folder))
    for artefact in dryrun.ARTEFACTS:
        counts = [len(study.unique(study.runs(artefact))) for study in (opened, unopened)]
        assert counts[0] == counts[1], artefact
    assert len(opened.unique(opened.all_runs())) == len(unopened.unique(unopened.all_runs()))


@pytest.mark.parametrize("profile", params.profiles())
def test_every_profile_is_walked_without_data_and_nothing_is_written(profile, tmp_path):
    text = walked(profile, engine={"store": str(tmp_path / "runs"), "artefacts": str(tmp_path / "figures")})
    assert all(f"  {artefact} " in text for artefact in dryrun.ARTEFACTS)
    assert list(tmp_path.iterdir()) == []


def test_the_paper_is_walked_with_what_it_needs_and_what_is_not_there(tmp_path):
    text = walked("paper", data={"root": str(tmp_path)})
    for part in (
        "25,331 images when whole", "112,120 images when whole", "take 3.8 GB", "take 5.6 GB", 
        f"{tmp_path}/nih, which is not there",
        "challenge.isic-archive.com", "split: seeded, 70% / 10% / 20%", f"lesion: no images at {tmp_path}/isic2019",
    ):  # fmt: skip
        assert part in text
    (tmp_path / "isic2019").mkdir(), (tmp_path / "nih").mkdir()
    assert walked("paper", data={"root": str(tmp_path)}).endswith("the parameters are consistent")


def test_what_would_only_fail_late_is_told(tmp_path):
    lists = {part: str(tmp_path / f"{part}.txt") for part in ("train", "validation", "test")}
    text = walked(
        "smoke", data={"sources": {"chest": {"lists": lists}}}, training={"batch_size": 64, "milestones": [1, 9]}
    )
    assert "training.milestones has [9], but training ends after 2 epochs" in text
    assert "lesion: a teacher's subset has about 44 images, fewer than training.batch_size 64" in text
    assert f"chest: the list of the train part, {tmp_path}/train.txt, is not there" in text


def test_the_command_needs_no_data():
    result = CliRunner().invoke(main, ["reproduce", "paper", "--dry-run"])
    assert result.exit_code == 0, result.output
    assert (
        "expected in DATA=folder, which is not given" in result.output and "01_data" in result.output.splitlines()[-1]
    )
    wrong = CliRunner().invoke(main, ["reproduce", "paper", "--dry-run", "-y", "{subsets: {overlap: 1.4}}"])
    assert wrong.exit_code == 2 and "subsets.overlap: 1.4 is not allowed" in wrong.stderr
