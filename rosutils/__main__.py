"""The command line. Exit status 0, 1 (it failed), 2 (the input is wrong). Light to import: `--help` comes through here."""

import atexit
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import reduce
from pathlib import Path

import click

from rosutils import InputError, RunError


OWNER = "owner.json"  # in a study's folder: the file of parameters that it is of
ARCHIVE = "runs.zip"  # beside a study's figures: the runs they are drawn from
FILE = click.Path(path_type=Path, dir_okay=False)
THERE = click.Path(path_type=Path, dir_okay=False, exists=True)
FOLDER = click.Path(path_type=Path)
interrupted: list[int] = []  # the signals that came


class Commands(click.Group):
    """Errors for people: one line, and the exit status that scripts rely on."""

    def invoke(self, context: click.Context) -> None:
        """Read a command's options and do it."""
        try:
            super().invoke(context)
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


def _interrupt(number: int, frame) -> None:
    """Once is enough: what follows ends the workers, and is not to be broken off."""
    if not interrupted:
        interrupted.append(number)
        raise KeyboardInterrupt


def _stop(status: int, message: str) -> None:
    click.echo("error: " + " ".join(message.split()), err=True)
    sys.exit(status)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _options(*options: Callable) -> Callable:
    """Several options as one decorator."""
    return lambda command: reduce(lambda made, option: option(made), options, command)


def _place(context: click.Context, option: click.Parameter, profile: str | None) -> str | None:
    """A profile as notebooks find it, which run elsewhere: a name, or the whole path of a file."""
    return str(Path(profile).resolve()) if profile and Path(profile).suffix in (".yaml", ".yml") else profile


def _mapping(context: click.Context, option: click.Parameter, text: str) -> dict:
    """What -y holds, which must not be the command's own argument."""
    from rosutils.params import parse

    found, own = parse(text, "-y"), "source" if context.info_name == "prepare" else "profile"
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(f"-y must be YAML sections such as '{{distillation: {{alpha: 0.5}}}}', found {text!r}")
    if own in found:
        raise InputError(f"-y holds the key '{own}', which is the command's own argument; leave it out")
    return found


def _rooted(context: click.Context, option: click.Parameter, folder: str | None) -> None:
    """Lay the folder of --data over the sections, which come first."""
    if folder is not None:
        sections = context.params["sections"]
        given = sections.get("data") or {}
        if not isinstance(given, dict):
            raise InputError(f"-y holds data: {given!r}, which is no section; with --data leave it out")
        sections["data"] = {**given, "root": str(Path(folder).resolve())}


YAML = {"default": "{}", "metavar": "YAML", "callback": _mapping, "is_eager": True}
DATA = {"type": click.Path(file_okay=False), "callback": _rooted, "expose_value": False}
SECTIONS = (
    click.option("-y", "--parameters", "sections", help="Sections laid over the profile, as YAML.", **YAML),
    click.option("--data", help="Folder that holds isic2019/ and nih/.", **DATA),
)
ON_A_PROFILE = _options(click.argument("profile", default="demo", callback=_place), *SECTIONS)
# RUN: the folder of a run, a row of Table I (RoS-KD), or the key of a run in a profile's store.
ON_A_NETWORK = _options(
    click.argument("run", metavar="RUN"),
    click.option("--task", metavar="NAME", help="Which task's network, where RUN is a row of Table I of several."),
    click.option("--profile", default="demo", show_default=True, callback=_place, help="Whose store and rows RUN is one of."),
    *SECTIONS,
)  # fmt: skip


def _study(profile: str, sections: dict):
    from rosutils.study import Study

    return Study.load(profile, **sections)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Reproduce RoS-KD (ICDM 2022): every table and figure, beside the numbers the paper prints."""


@main.command()
@ON_A_PROFILE
@click.option("--dry-run", is_flag=True, help="Only say what would be made, and from which data; no image is needed.")
@click.option("--order", metavar="NAMES", help="Artefacts made first, in this order, replicate by replicate.")
def reproduce(profile: str, sections: dict, dry_run: bool, order: str | None) -> None:
    """Train what is missing, run the notebooks through papermill, print Table I beside the paper's."""
    from rosutils import notebooks
    from rosutils.study import plan

    if dry_run:
        study = plan.Unopened.load(profile, **sections)
        _owner(study, profile)
        _say(plan.walk(study))
        click.echo(f"notebooks: {', '.join(path.stem for path in sorted(notebooks.FOLDER.glob('[0-9]*.ipynb')))}")
        return
    study = _study(profile, sections)
    _owner(study, profile)
    _say(study.task(name).summary() for name in study.parameters.tasks)
    runs = study.unique(study.all_runs())
    missing = study.missing(runs)
    click.echo(f"runs: {len(runs) - len(missing)} of {len(runs)} are in {study.store.root}; {len(missing)} to make")
    _say(plan.leftovers(study))
    study.check_batches(missing)
    _say(f"doubtful: {doubt}" for doubt in (plan.lacking(study) if missing else ()))
    for group in study.in_order(order.split(",")) if order else ():
        study.ensure(group)
    study.ensure(runs)
    _show(study, {"profile": profile, **sections})


def _owner(study, profile: str) -> str:
    """Which file a study's folders are of; raises InputError where another one of its name, with other parameters, made them."""
    from rosutils import params
    from rosutils.store import digest

    own, found = {"file": str(params.path(profile).resolve()), "parameters": digest(study.shared())}, {}
    with suppress(OSError, ValueError):
        found = json.loads((study.output / OWNER).read_bytes())
    others = isinstance(found, dict) and all(found.get(name, own[name]) != own[name] for name in own)
    if others and study.parameters.profile not in params.profiles() and Path(str(found["file"])).is_file():
        what = f"{study.output} holds the study '{study.label}' of {found['file']}, whose parameters are others"
        raise InputError(f"{what}; give {own['file']} another name, in its line `profile:`")
    return json.dumps(own)


def _show(study, parameters: dict) -> None:
    """Run the notebooks; Table I beside the paper's, and where the report is."""
    from rosutils.notebooks import run_all
    from rosutils.store import write_whole
    from rosutils.study import verification

    with study.alone():
        write_whole(study.output / OWNER, _owner(study, parameters["profile"]))
        if study.of_notebook(parameters).shared() != study.shared():  # notebooks read the file again
            changed = f"{parameters['profile']} was changed while its runs were made"
            raise InputError(f"{changed}; the same command takes it as it is")
        study.results()  # measured once, here, and not by every notebook
        run_all(study.output / "notebooks", parameters)
        strangers = list(verification.changed_files(study.figures))
    _say(f"not shown: {problem}" for problem in strangers)
    _end(study)


def _end(study) -> None:
    from rosutils.paper import cells, claims, table1

    click.echo(f"\nTable I, F1 and its parts: the paper's, ours, ours minus the paper's ({study.watermark()})\n")
    click.echo(cells.side_by_side(table1.TABLE.make(study)))
    _say(["", *claims.sentences(study), "", f"report: {study.figures / 'report.html'}"])


@main.command()
@ON_A_PROFILE
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
    _say(plan.plan(study, at_once, gpus=gpus is not None, speed=speed))


@main.command()
@ON_A_PROFILE
@click.option("--all", "every", is_flag=True, help="A line for every run as well.")
def status(profile: str, sections: dict, every: bool) -> None:
    """Say how far a profile is: runs done and missing, how long these take, and which networks learnt nothing."""
    from rosutils.study import plan

    _say(plan.status(_study(profile, sections).as_made(), every))


@main.command()
@ON_A_PROFILE
def verify(profile: str, sections: dict) -> None:
    """Check runs, results.csv, tables and figures against what was computed; name everything that differs."""
    from rosutils.study import verification

    study = _study(profile, sections)
    why = verification.unopened(study)
    study = study if why else study.as_made()
    found = list(verification.problems(study))
    _say(found)
    if found:
        again = f"make reproduce PROFILE={profile} makes them again"
        _stop(1, f"{len(found)} things differ from what was computed; {again}")
    files = f"{len(verification.provenance_in(study.figures)['files'])} tables and figures, report included,"
    if why:
        click.echo(f"profile {study.label}: {files} are as computed; {why}, so no number was measured again")
        return
    runs = study.unique(study.all_runs())
    missing = len(study.missing(runs))
    untold = f"; {missing} runs are not in the store, so what they gave was not measured again" if missing else ""
    click.echo(f"profile {study.label}: {len(runs) - missing} runs, results.csv and {files} are as computed{untold}")


@main.command()
@ON_A_PROFILE
@click.option("--out", type=FILE, help="The file; runs.zip beside the figures if not given.")
def archive(profile: str, sections: dict, out: Path | None) -> None:
    """Write the finished runs of a profile into one file, without their weights: what all its numbers are made from.

    Without --out it comes to lie beside the figures, with results.csv, where `redraw` finds it.
    """
    from rosutils import results

    study = _study(profile, sections).as_made()
    file = out or study.figures / ARCHIVE
    count = study.archive(file)
    if out is None:
        results.write(study.results(), study.figures / "results.csv")
    click.echo(f"{count} runs are in {file} ({file.stat().st_size / 1e6:.1f} MB)")


@main.command()
@ON_A_PROFILE
def redraw(profile: str, sections: dict) -> None:
    """Draw every table and figure and write the report again from finished runs: no training, no notebooks.

    Runs that lie beside the figures in an archive are adopted first; then no image is needed, but by what shows some.
    """
    from rosutils.paper import report

    study = _study(profile, sections)
    if (file := study.figures / ARCHIVE).is_file():
        study.store.adopt(file)
    study = study.as_made()
    with study.alone():
        _owner(study, profile)
        _say(report.redraw(study))
    _end(study)


@main.command()
@ON_A_PROFILE
@click.option("--from", "file", required=True, type=THERE, help="An archive.")
def adopt(profile: str, sections: dict, file: Path) -> None:
    """Put the runs of an archive into the store of a profile; those that are there stay. Then: reproduce."""
    store = _study(profile, sections).store
    click.echo(f"{store.adopt(file)} runs came into {store.root}")


@main.command()
@click.argument("source", metavar="{isic2019|nih|medmnist|folder}")
@click.option("--raw", required=True, type=FOLDER, help="The raw folder, in its official layout, or yours.")
@click.option("--size", required=True, type=click.IntRange(16, 1024), help="Pixels of the shorter side.")
@click.option("--out", required=True, type=FOLDER, help="Where the prepared folder goes.")
@click.option("--allow-missing", is_flag=True, help="Accept a partial download.")
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read; the data card lists them.")
@click.option("-y", "--options", help="Options of the source, as in a parameter file.", **YAML)
def prepare(source: str, raw: Path, size: int, out: Path, options: dict, **tolerant: bool) -> None:
    """Decode a raw folder once into a cache of uint8 images; the same command goes on where it was interrupted.

    Options of the source are such as '{dataset: dermamnist}', '{revision: 2017}', or for your own folder
    '{label: diagnosis, group: patient}' or '{labels: [effusion, mass], grey: true}'.
    """
    from rosutils import params
    from rosutils.data import sources

    if source not in sources.PREPARED:
        raise InputError(f"source '{source}' cannot be prepared; choose one of {', '.join(sources.PREPARED)}")
    section = params.source({"source": source, **options})
    sources.prepare(source, raw=raw, pixels=size, out=out, section=section, **tolerant)


@main.command()
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--profile", callback=_place,
    help="What is played with; by default demo where it was reproduced, and smoke otherwise.",
)  # fmt: skip
def lab(options: tuple[str, ...], profile: str | None) -> None:
    """Open JupyterLab on copies of the notebooks, so that playing changes nothing; OPTIONS behind -- are JupyterLab's.

    The copies are in lab/ beside the runs. What you change there stays; without it, they follow the kit's own.
    """
    from rosutils import notebooks, params

    if profile is None:
        made = params.ROOT / params.load("demo").engine.store / "demo" / "results.csv"
        profile = "demo" if made.is_file() else "smoke"
    parameters = params.load(profile)
    engine, label = parameters.engine, params.label(profile, parameters)
    folder = params.ROOT / engine.store / "lab"
    root = params.ROOT if folder.is_relative_to(params.ROOT) else folder.parent
    report = os.path.relpath(params.ROOT / engine.artefacts / label / "report.html", folder)
    notebooks.copies(folder, profile, report)
    where = f"/lab/tree/{(folder / '01_data.ipynb').relative_to(root).as_posix()}"
    given = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url={where}", *options]
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *given])


@main.command()
@ON_A_PROFILE
def suspects(profile: str, sections: dict) -> None:
    """List the labels that look wrong, by what teachers say of images they have not seen; trains what is missing.

    The whole list and pictures of the worst go to runs/<profile>/suspects_<task>.csv and .png.
    """
    from rosutils import suspects

    study = _study(profile, sections)
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
@ON_A_NETWORK
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FILE, help="The csv file to write.")
@click.option("--skip-bad", is_flag=True, help="Leave out files that cannot be read, and name them.")
def predict(profile: str, sections: dict, run: str, task: str | None, folder: Path, out: Path, skip_bad: bool) -> None:
    """Predict the images of a folder with a trained network: probabilities, and labels by thresholds from validation.

    RUN is a row of Table I (RoS-KD) of --profile, the folder of a run, or a key in the store.
    """
    from rosutils import predict
    from rosutils.store import write_whole

    network = predict.find(run, profile, sections, task)
    table, bad = predict.folder(network, folder, skip_bad=skip_bad)
    _say(f"left out: {name}: {why}" for name, why in bad.items())
    write_whole(out, table.to_csv(index=False, lineterminator="\n"))
    click.echo(f"{network.name}: {len(table):,} images are predicted in {out}; not a medical device")


@main.command()
@ON_A_NETWORK
@click.option("--out", required=True, type=FILE, help="The .onnx or .pt file.")
def export(profile: str, sections: dict, run: str, task: str | None, out: Path) -> None:
    """Write a trained network as ONNX or TorchScript, checked for equal outputs; of a row of Table I also its model card.

    RUN is a row of Table I (RoS-KD) of --profile, the folder of a run, or a key in the store.
    """
    from rosutils import predict
    from rosutils.store import write_whole

    network = predict.find(run, profile, sections, task)
    click.echo(f"{network.name}: {predict.export(network, out)} gives the same logits")
    if network.row:
        card = predict.card(_study(profile, sections), network.about["task"], network.row)
        card = write_whole(out.with_suffix(".md"), card)
        click.echo(f"model card: {card}")


@main.command()
@ON_A_PROFILE
@click.argument("other", required=False)
def compare(profile: str, sections: dict, other: str | None) -> None:
    """Show Table I of two studies and their differences: compare demo demo+alpha0.5, or compare demo -y '{...}'."""
    from rosutils.paper import cells, compare

    click.echo(cells.side_by_side(compare.table(profile, other or profile, **sections)))
    click.echo("\nlow to high: 95 % over replicates, paired, Student's t, not corrected for the number of comparisons")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        atexit.register(signal.signal, number, signal.SIG_IGN)  # Python's own end hears of none, and would die of it
        if signal.getsignal(number) != signal.SIG_IGN:  # as for what a shell starts in the background
            signal.signal(number, _interrupt)
    main(prog_name="python -m rosutils")
