"""The command line. Exit status 0, 1 (it failed), 2 (the input is wrong)."""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from rosutils import InputError, RunError


ARCHIVE = "runs.zip"  # beside a study's figures: the runs they are drawn from
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path)
# Nothing heavy above: `--help`, and the processes that execute notebooks, come through here.


def _plain_errors(command: Callable) -> Callable:
    """Errors for people: one line, and the exit status that scripts rely on."""

    @wraps(command)
    def wrapped(*args, **kwargs) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            _stop(2, str(error))
        except (RunError, FloatingPointError) as error:
            _stop(1, str(error))
        except BrokenPipeError:  # of `| head`, say; click ends without a word
            raise
        except OSError as error:
            _stop(1, f"{error}; what is finished is kept: the same command goes on from there")
        except BaseException as error:
            if not interrupted and not isinstance(error, KeyboardInterrupt):
                raise  # an import that is interrupted may fail as it likes
            how, number = ("interrupted", 2) if signal.SIGTERM not in interrupted else ("ended by SIGTERM", 15)
            _stop(128 + number, f"{how}; finished runs and epochs are kept: the same command goes on from there")

    return wrapped


interrupted: list[int] = []  # the signals that came


def _interrupt(number: int, frame) -> None:
    """Once is enough: what follows ends the workers, and is not to be broken off."""
    if not interrupted:
        interrupted.append(number)
        raise KeyboardInterrupt


def _stop(status: int, message: str) -> None:
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(status)


PROFILE = click.argument("profile", default="demo")


def _on_a_profile(command: Callable, named: Callable = PROFILE) -> Callable:
    """A command `command(profile, sections, ...)` about a profile, with the sections that its options lay over it."""

    @wraps(command)
    def loaded(profile: str, parameters: str, data: str | None, **options) -> None:
        sections = _mapping(parameters)
        if "profile" in sections:
            raise InputError("-y holds the key 'profile', which is the command's own argument; leave it out")
        if data is not None:  # from here: notebooks run elsewhere
            given = sections.get("data") or {}
            if not isinstance(given, dict):
                raise InputError(f"-y holds data: {given!r}, which is no section; with --data leave it out")
            sections["data"] = {**given, "root": str(Path(data).resolve())}
        command(str(Path(profile).resolve()) if Path(profile).suffix else profile, sections, **options)

    for option in (
        named,
        click.option("-y", "--parameters", default="{}", metavar="YAML", help="Sections laid over the profile, as YAML."),
        click.option("--data", type=click.Path(file_okay=False), help="Folder that holds isic2019/ and nih/."),
    ):  # fmt: skip
        loaded = option(loaded)
    return _plain_errors(loaded)


def _on_a_study(command: Callable) -> Callable:
    """A command `command(study, ...)` about the study of a profile."""

    @wraps(command)
    def loaded(profile: str, sections: dict, **options) -> None:
        from rosutils.study import Study

        command(Study.load(profile, **sections), **options)

    return _on_a_profile(loaded)


def _on_a_network(command: Callable) -> Callable:
    """A command about RUN: the folder of a run, a row of Table I (RoS-KD), or the key of a run in a profile's store."""
    for option in (
        click.option("--task", metavar="NAME", help="Which task's network, where RUN is a row of Table I of several."),
        click.argument("run", metavar="RUN"),
    ):
        command = option(command)
    profile = click.option("--profile", default="demo", show_default=True, help="Whose store and rows RUN is one of.")
    return _on_a_profile(command, profile)


def _mapping(text: str) -> dict:
    from rosutils.params.reading import parse

    found = parse(text, "-y")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(f"-y must be YAML sections such as '{{distillation: {{alpha: 0.5}}}}', found {text!r}")
    return found


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Reproduce RoS-KD (ICDM 2022): every table and figure, beside the numbers the paper prints."""


@main.command()
@_on_a_profile
@click.option("--dry-run", is_flag=True, help="Only say what would be made, and from which data; no image is needed.")
@click.option("--order", metavar="NAMES", help="Artefacts made first, in this order, replicate by replicate.")
def reproduce(profile: str, sections: dict, dry_run: bool, order: str | None) -> None:
    """Train what is missing, run the notebooks through papermill, print Table I beside the paper's."""
    if dry_run:
        from rosutils.notebooks import FOLDER
        from rosutils.study.plan import Unopened, walk

        for line in walk(Unopened.load(profile, **sections)):
            click.echo(line)
        click.echo(f"notebooks: {', '.join(path.stem for path in sorted(FOLDER.glob('[0-9]*.ipynb')))}")
        return
    from rosutils.study import Study
    from rosutils.study.plan import lacking, leftovers

    study = Study.load(profile, **sections)
    for name in study.parameters.tasks:
        click.echo(study.task(name).summary())
    runs = study.unique(study.all_runs())
    missing = study.missing(runs)
    click.echo(f"runs: {len(runs) - len(missing)} of {len(runs)} are in {study.store.root}; {len(missing)} to make")
    for line in leftovers(study):
        click.echo(line)
    study.check_batches(missing)
    for doubt in lacking(study) if missing else ():
        click.echo(f"doubtful: {doubt}")
    for group in study.in_order(order.split(",")) if order else ():
        study.ensure(group)
    study.ensure(runs)
    _show(study, {"profile": profile, **sections})


def _show(study, parameters: dict) -> None:
    """Run the notebooks; Table I beside the paper's, and where the report is."""
    from rosutils.notebooks import run_all
    from rosutils.study import Study, verification

    with study.alone():
        if Study.of_notebook(parameters).shared() != study.shared():  # notebooks read the file again
            changed = f"{parameters['profile']} was changed while its runs were made"
            raise InputError(f"{changed}; the same command takes it as it is")
        study.results()  # measured once, here, and not by every notebook
        run_all(study.output / "notebooks", parameters)
        strangers = list(verification.changed_files(study.figures))
    for problem in strangers:
        click.echo(f"not shown: {problem}")
    _end(study)


def _end(study) -> None:
    from rosutils.paper import cells, claims, table1

    click.echo(f"\nTable I, F1 and its parts: the paper's, ours, ours minus the paper's ({study.watermark()})\n")
    click.echo(cells.side_by_side(table1.TABLE.make(study)))
    click.echo("\n" + "\n".join(claims.sentences(study)))
    click.echo(f"\nreport: {study.figures / 'report.html'}")


@main.command()
@_on_a_profile
@click.option("--workers", type=click.IntRange(1), help="Runs made at once; by default as engine.workers says.")
@click.option("--gpus", type=click.IntRange(1), help="The same by GPUs: engine.gpus_per_run of them for each run.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), help="Images a second of a worker, for a ResNet-18.")
def plan(profile: str, sections: dict, workers: int | None, gpus: int | None, speed: float | None) -> None:
    """Say what a profile will take: runs, what is shared, time, disk; its images need not be there.

    How fast a worker is, finished runs tell; before there are any, some steps are timed on this machine (ten seconds).
    """
    from rosutils.study import plan

    study = plan.load(profile, **sections)
    each = study.parameters.engine.gpus_per_run
    if workers and gpus:
        raise InputError("--workers and --gpus say the same thing in two ways; give one of them")
    if gpus and (each == 0 or gpus < each):
        raise InputError(f"--gpus is {gpus}, but engine.gpus_per_run is {each:g}: no run could be made")
    click.echo(study.watermark())
    at_once = int(gpus / each) if gpus else workers or study.workers()
    for line in plan.plan(study, at_once, gpus=gpus is not None, speed=speed):
        click.echo(line)


@main.command()
@_on_a_study
@click.option("--all", "every", is_flag=True, help="A line for every run as well.")
def status(study, every: bool) -> None:
    """Say how far a profile is: runs done and missing, how long these take, and which networks learnt nothing."""
    from rosutils.study import plan

    for line in plan.status(study.as_made(), every):
        click.echo(line)


@main.command()
@_on_a_profile
def verify(profile: str, sections: dict) -> None:
    """Check runs, results.csv, tables and figures against what was computed; name everything that differs."""
    from rosutils.study import Study, verification

    study = Study.load(profile, **sections)
    study = study if verification.unopened(study) else study.as_made()
    found = list(verification.problems(study))
    for problem in found:
        click.echo(problem)
    if found:
        again = f"make reproduce PROFILE={profile} makes them again"
        _stop(1, f"{len(found)} things differ from what was computed; {again}")
    files = f"{len(verification.provenance_in(study.figures)['files'])} tables and figures, report included,"
    if why := verification.unopened(study):
        click.echo(f"profile {study.label}: {files} are as computed; {why}, so no number was measured again")
        return
    runs = study.unique(study.all_runs())
    missing = len(study.missing(runs))
    untold = f"; {missing} runs are not in the store, so what they gave was not measured again" if missing else ""
    click.echo(f"profile {study.label}: {len(runs) - missing} runs, results.csv and {files} are as computed{untold}")


@main.command()
@_on_a_study
@click.option("--out", type=FILE, help="The file; runs.zip beside the figures if not given.")
def archive(study, out: Path | None) -> None:
    """Write the finished runs of a profile into one file, without their weights: what all its numbers are made from.

    Without --out it comes to lie beside the figures, with results.csv, where `redraw` finds it.
    """
    from rosutils import results

    study = study.as_made()
    count = study.archive(out or study.figures / ARCHIVE)
    if out is None:
        results.write(study.results(), study.figures / "results.csv")
        out = study.figures / ARCHIVE
    click.echo(f"{count} runs are in {out} ({out.stat().st_size / 1e6:.1f} MB)")


@main.command()
@_on_a_study
def redraw(study) -> None:
    """Draw every table and figure and write the report again from finished runs: no training, no notebooks.

    Runs that lie beside the figures in an archive are adopted first; then no image is needed, but by what shows some.
    """
    from rosutils.paper.report import redraw

    if (file := study.figures / ARCHIVE).is_file():
        study.store.adopt(file)
    study = study.as_made()
    with study.alone():
        for left in redraw(study):
            click.echo(left)
    _end(study)


@main.command()
@_on_a_profile
@click.option(
    "--from", "file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), help="An archive."
)
def adopt(profile: str, sections: dict, file: Path) -> None:
    """Put the runs of an archive into the store of a profile; those that are there stay. Then: reproduce."""
    from rosutils import params
    from rosutils.store import Store

    store = Store(params.ROOT / params.load(profile, **sections).engine.store / "store")
    click.echo(f"{store.adopt(file)} runs came into {store.root}")


@main.command()
@click.argument("source", metavar="{isic2019|nih|medmnist|folder}")
@click.option("--raw", required=True, type=FOLDER, help="The raw folder, in its official layout, or yours.")
@click.option("--size", required=True, type=click.IntRange(16, 1024), help="Pixels of the shorter side.")
@click.option("--out", required=True, type=FOLDER, help="Where the prepared folder goes.")
@click.option("--allow-missing", is_flag=True, help="Accept a partial download.")
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read; the data card lists them.")
@click.option("-y", "--options", default="{}", metavar="YAML", help="Options of the source, as in a parameter file.")
@_plain_errors
def prepare(source: str, raw: Path, size: int, out: Path, options: str, **tolerant: bool) -> None:
    """Decode a raw folder once into a cache of uint8 images; the same command goes on where it was interrupted.

    Options of the source are such as '{dataset: dermamnist}', '{revision: 2017}', or for your own folder
    '{label: diagnosis, group: patient}' or '{labels: [effusion, mass], grey: true}'.
    """
    from rosutils import params
    from rosutils.data import sources

    if source not in sources.PREPARED:
        raise InputError(f"source '{source}' cannot be prepared; choose one of {', '.join(sources.PREPARED)}")
    given = _mapping(options)
    if "source" in given:
        raise InputError("-y holds the key 'source', which is the command's own argument; leave it out")
    section = params.source({"source": source, **given})
    sources.prepare(source, raw=raw, pixels=size, out=out, section=section, **tolerant)


@main.command()
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--profile", help="What is played with; by default demo where it was reproduced, and smoke otherwise.")
@_plain_errors
def lab(options: tuple[str, ...], profile: str | None) -> None:
    """Open JupyterLab on copies of the notebooks, so that playing changes nothing; OPTIONS behind -- are JupyterLab's.

    The copies are in lab/ beside the runs. What you change there stays; without it, they follow the kit's own.
    """
    from rosutils import notebooks, params

    if profile is None:
        made = params.ROOT / params.load("demo").engine.store / "demo" / "results.csv"
        profile = "demo" if made.is_file() else "smoke"
    profile = str(Path(profile).resolve()) if Path(profile).suffix else profile
    engine, label = params.load(profile).engine, params.load(profile).profile
    folder = params.ROOT / engine.store / "lab"
    root = params.ROOT if folder.is_relative_to(params.ROOT) else folder.parent
    report = os.path.relpath(params.ROOT / engine.artefacts / label / "report.html", folder)
    notebooks.copies(folder, profile, report)
    where = f"/lab/tree/{(folder / '01_data.ipynb').relative_to(root).as_posix()}"
    given = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url={where}", *options]
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *given])


@main.command()
@_on_a_study
def suspects(study) -> None:
    """List the labels that look wrong, by what teachers say of images they have not seen; trains what is missing.

    The whole list and pictures of the worst go to runs/<profile>/suspects_<task>.csv and .png.
    """
    from rosutils import suspects

    for task in study.parameters.tasks:
        study.ensure(suspects.needed(study, task))
        found = suspects.suspects(study, task)
        files = suspects.write(study, task, found)
        click.echo(f"{task}: {len(found):,} labels, the most suspicious first: {' and '.join(map(str, files))}")
        shown = found if "wrong" not in found else suspects.precision_and_recall(found).round(3)
        click.echo(shown.drop(columns="says", errors="ignore").head(10).to_string(index=False))
    if "cleanlab" not in found:
        click.echo("no second opinion: cleanlab is not installed (pip install cleanlab)")


@main.command()
@_on_a_network
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The csv file to write.")
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read, and name them.")
def predict(profile: str, sections: dict, run: str, task: str | None, folder: Path, out: Path, skip_bad: bool) -> None:
    """Predict the images of a folder with a trained network: probabilities, and labels by thresholds from validation.

    RUN is a row of Table I (RoS-KD) of --profile, the folder of a run, or a key in the store.
    """
    from rosutils import predict

    network = predict.find(run, profile, sections, task)
    table, bad = predict.folder(network, folder, skip_bad=skip_bad)
    for name, why in bad.items():
        click.echo(f"left out: {name}: {why}")
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False, lineterminator="\n")
    click.echo(f"{network.name}: {len(table):,} images are predicted in {out}; not a medical device")


@main.command()
@_on_a_network
@click.option("--out", required=True, type=FILE, help="The .onnx or .pt file.")
def export(profile: str, sections: dict, run: str, task: str | None, out: Path) -> None:
    """Write a trained network as ONNX or TorchScript, checked for equal outputs; of a row of Table I also its model card.

    RUN is a row of Table I (RoS-KD) of --profile, the folder of a run, or a key in the store.
    """
    from rosutils import predict
    from rosutils.study import Study

    network = predict.find(run, profile, sections, task)
    click.echo(f"{network.name}: {predict.export(network, out)} gives the same logits")
    if network.row:
        study = Study.load(profile, **sections)
        out.with_suffix(".md").write_text(predict.card(study, network.about["task"], network.row), encoding="utf-8")
        click.echo(f"model card: {out.with_suffix('.md')}")


@main.command()
@_on_a_profile
@click.argument("other", required=False)
def compare(profile: str, sections: dict, other: str | None) -> None:
    """Show Table I of two studies and their differences: compare demo demo+alpha0.5, or compare demo -y '{...}'."""
    from rosutils.paper import cells, compare

    click.echo(cells.side_by_side(compare.table(profile, other or profile, **sections)))
    click.echo("\nlow to high: 95 % over replicates, paired, Student's t, not corrected for the number of comparisons")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as for what a shell starts in the background
            signal.signal(number, _interrupt)
    main(prog_name="python -m rosutils")
