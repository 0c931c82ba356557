"""The command `vrstc`: parses, and calls. `vrstc COMMAND --help` says what each takes."""

import dataclasses
import os
import shlex
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vrstc_jax import config as configs
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import is_first_process, run_as_command, start_jax, start_jax_for_training
from vrstc_jax.runtime.storage import require_local

Size = Literal["small", "paper", "paper_literal", "smoke"]
Input = tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Footage:
    """Where the people are and what hides them."""

    boxes: Path | None = None
    """For a video: the people's boxes, MOTChallenge text (frame,id,left,top,width,height, frames from 1)."""
    masks: Path | None = None
    """Folder of masks (PNG, white = hidden), used in place of locating."""
    pattern: str | None = None
    """For a folder: what its levels are, such as person/camera/tracklet/frame. Found from its depth if left out."""


@dataclass(frozen=True)
class Demo:
    """The whole job on made-up walkers: re-ID network, locating, STCnet, completion, judgement, report."""

    output: Path
    """New folder for everything; open report.html in it. The same command goes on where it stopped."""
    size: Literal["small", "smoke"] = "small"
    """small: for two cores, some minutes. smoke: to see that it runs; it learns nothing."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Makes, learns, completes, judges and reports."""
        from vrstc_jax.recipes.demo import demo
        from vrstc_jax.runtime.distributed import require_single_process

        start_jax_for_training(configs.get(self.size).batches)
        require_single_process("vrstc demo")
        summary = demo(self.output, config=dataclasses.replace(configs.get(self.size), seed=self.seed),
                       command=_command())
        print(summary)


@dataclass(frozen=True)
class Fit:
    """Learn from your own footage: people in frames that nothing hides teach how to paint the hidden in.

    The work is kept beside the model in MODEL.work; the same command goes on where it stopped.
    """

    input: Input
    """A video, or a folder of pictures."""
    output: Path
    """The model file to write."""
    footage: Annotated[Footage, tyro.conf.arg(name="")] = Footage()
    size: Size = "small"
    """Of the networks. small is for two cores; paper is the paper's, for GPUs and TPUs."""
    start_from: Path | None = None
    """A model to go on with; if left out, the default model, which is of size small."""
    fresh: bool = False
    """Start from nothing."""
    steps: int | None = None
    """Training steps of STCnet; if left out, the size's own number from nothing, fewer where it goes on."""
    reid_steps: int | None = None
    """Training steps of the re-ID network, likewise."""
    hold_out: int = 0
    """Keep runs of this many neighbouring clean frames of every tracklet out of training, for `vrstc judge`."""
    tau: float | None = None
    """A band is hidden where its score is below this; if left out, the size's own, or chosen from the scores."""
    hide: Literal["mixed", "bands"] | None = None
    """What to hide in training: bands alone, as in the paper, or shapes of real occluders too."""
    learning_rate: float | None = None
    """Of STCnet's Adam, for both players."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Fits and writes the model."""
        from vrstc_jax.models.model_file import load_model, save_model
        from vrstc_jax.recipes.fit import fit
        from vrstc_jax.runtime import distributed
        from vrstc_jax.runtime.storage import require_writable_directory

        start_jax_for_training(configs.get(self.size).batches)
        _positive(steps=self.steps, reid_steps=self.reid_steps, learning_rate=self.learning_rate)
        if self.hold_out < 0:
            raise InputError(f"--hold-out must be 0 or more frames. Got {self.hold_out}.")
        if self.output.is_dir():
            raise InputError(f"{self.output}: is a folder; give the name of the model file to write.")
        work = Path(f"{self.output}.work")
        start = self._start()
        with _taken_back(work):
            distributed.run_on_first(lambda: require_writable_directory(self.output.absolute().parent))
            source = _source(self.input, self.footage, work / "spool")
        _tell(source.warnings)
        model = fit(source.tracklets, work, config=self._config(start), start_from=start, hold_out=self.hold_out,
                    command=_command(), inputs=_identity(self.input, self.footage))
        distributed.run_on_first(lambda: save_model(self.output, model))
        if not distributed.is_first():
            return
        if self.hold_out and not model.provenance["held_out"]:
            _tell([f"nothing was held out: no tracklet has a clean run of {self.hold_out} frames with as many "
                   "before and after it."])
        held_out = sum(map(len, model.provenance["held_out"].values()))
        print(f"{self.output}: learned from {model.provenance['unoccluded_frames']} unoccluded of "
              f"{model.provenance['frames']} frames of {model.provenance['tracklets']} tracklets; "
              f"tau {model.tau:.4f}; {held_out} runs held out. SHA-256 of its tensors: "
              f"{load_model(self.output).digest}")

    def _start(self):
        from vrstc_jax.models.model_file import default_model_path

        if self.fresh and self.start_from:
            raise InputError(f"--start-from {self.start_from} and --fresh contradict each other; give one of them.")
        if self.fresh or not self.start_from and (self.size != "small" or not default_model_path().is_file()):
            return None
        return _model(self.start_from, what="going on with")

    def _config(self, start) -> configs.Config:
        from vrstc_jax.recipes.fit import starting_from

        config = configs.get(self.size)
        if start is not None:
            config = starting_from(start, config)
        training = config.stcnet_training
        training = dataclasses.replace(training, steps=self.steps or training.steps,
                                       learning_rate=self.learning_rate or training.learning_rate)
        reid = dataclasses.replace(config.reid_training, steps=self.reid_steps or config.reid_training.steps)
        masks = dataclasses.replace(config.masks, kind=self.hide or config.masks.kind)
        return dataclasses.replace(config, stcnet_training=training, reid_training=reid, masks=masks,
                                   seed=self.seed, tau=config.tau if self.tau is None else self.tau)


@dataclass(frozen=True)
class Complete:
    """Find the hidden parts of every person and paint them in.

    A folder gives a folder of the same tree and names; a video gives OUTPUT/<track>/<frame>.png. Masks used,
    scores, report.html and metrics.json are beside them. The same command goes on where it stopped.
    """

    input: Input
    """A video, or a folder of pictures."""
    output: Path
    """New folder for the completed crops and the report."""
    model: Path | None = None
    """A model file from `vrstc fit`; if left out, the default model, which comes with the package."""
    footage: Annotated[Footage, tyro.conf.arg(name="")] = Footage()
    render: Path | None = None
    """For a video: also write a video with the completed people put back, beside the original."""
    dataset: Path | None = None
    """Also write the completed tracklets and their masks as a TFDS data set (array_record)."""

    def run(self) -> None:
        """Completes everything in the input."""
        from vrstc_jax.evaluation.judging import has_held_out
        from vrstc_jax.inference.complete import Completer
        from vrstc_jax.inference.results_folder import ResultsFolder
        from vrstc_jax.recipes.complete import complete_source, model_identity
        from vrstc_jax.recipes.judge import judge
        from vrstc_jax.runtime import distributed

        start_jax()
        model = _model(self.model)
        if self.render and self.input.is_dir():
            raise InputError(f"--render {self.render}: there is no picture to put people back into; "
                             f"{self.input} is a folder of crops.")
        run = {"input": _identity(self.input, self.footage)}
        with _taken_back(self.output / "run.json", self.output / "work", (self.render or self.output).parent):
            distributed.run_on_first(self._require_places)
            folder = ResultsFolder(self.output, run | model_identity(model))
            source = _source(self.input, self.footage, folder.work / "spool")
            folder.require_names(source.tracklets)
        _tell(source.warnings)
        completer = Completer(model)
        verdict = None
        # Tracks of other footage bear the same numbers, so names alone do not tell whose frames they are.
        fitted_to = model.provenance.get("inputs", {}).get("input")
        if distributed.is_first() and fitted_to == run["input"]["input"] and has_held_out(model, source.tracklets):
            verdict = judge(completer, source.tracklets)
            print(verdict.format())
        metrics = complete_source(model, source, self.output, command=_command(), run=run, verdict=verdict,
                                  completer=completer, finish=lambda: self._finish(source, folder))
        if not distributed.is_first():
            return
        print(f"{self.output}: {metrics['frames']} frames of {metrics['tracklets']} tracklets, "
              f"{metrics['frames_by_how']['stcnet'] + metrics['frames_by_how']['spatial']} completed; "
              f"open {self.output / 'report.html'}")

    def _require_places(self) -> None:
        from vrstc_jax.data.tracklet_set import require_replaceable
        from vrstc_jax.report.render import require_renderable
        from vrstc_jax.runtime.storage import require_writable_directory

        if self.render:
            require_renderable(self.render)
        if self.dataset:
            require_writable_directory(self.dataset.absolute().parent)
            require_replaceable(self.dataset)

    def _finish(self, source, folder) -> None:
        from tqdm import tqdm

        from vrstc_jax.data.tracklet_set import write_set
        from vrstc_jax.report.render import CompletedFolder, render_video

        if self.render:
            count = render_video(self.input, self.render, CompletedFolder(source, folder))
            print(f"{self.render}: {count} frames, the original on the left")
        if self.dataset:
            with tqdm(total=sum(map(len, source.tracklets)), desc="storing frames", unit="frame",
                      dynamic_ncols=True) as bar:
                write_set(self.dataset, map(folder.completed, source.tracklets), progress=bar.update)
            print(f"{self.dataset}: a TFDS data set of {len(source.tracklets)} completed tracklets")


@dataclass(frozen=True)
class Judge:
    """Hide what is known, complete it, and compare with simple fillings.

    On the runs that `vrstc fit --hold-out` kept from training, on runs of footage that the model never saw
    (--hold-out), or wherever the truth is known (--truth).
    """

    input: Input
    """A video, or a folder of pictures."""
    model: Path | None = None
    """A model file from `vrstc fit`; if left out, the default model, which comes with the package."""
    footage: Annotated[Footage, tyro.conf.arg(name="")] = Footage()
    hold_out: int | None = None
    """For a model that was not fitted to this footage: hide runs of this many neighbouring frames in which it finds
    nothing hidden; 9 for the default model."""
    truth: Path | None = None
    """Folder of the same frames without what hides people; needs --masks too."""
    output: Path | None = None
    """New folder for report.html and metrics.json."""
    seed: int = 0
    """Which band of each run is hidden."""

    def run(self) -> None:
        """Judges and prints the table."""
        import tempfile

        from vrstc_jax.evaluation.judging import held_out_by
        from vrstc_jax.inference.complete import Completer
        from vrstc_jax.recipes.complete import write_summary
        from vrstc_jax.recipes.judge import judge
        from vrstc_jax.runtime.storage import require_writable_directory

        _positive(hold_out=self.hold_out)
        model = _model(self.model)
        size = 9 if self.hold_out is None and self.model is None and not self.truth else self.hold_out
        if size and self.truth:
            raise InputError("--hold-out hides what is seen, and --truth shows what is hidden; give one of them.")
        if size and model.provenance.get("inputs", {}).get("input") == _identity(self.input, self.footage)["input"]:
            raise InputError(f"{self.model}: was fitted to this footage, so it is judged on the runs that `vrstc fit "
                             "--hold-out` kept from it; leave --hold-out out.")
        with tempfile.TemporaryDirectory() as spool, _taken_back(*filter(None, [self.output])):
            if self.output:
                require_writable_directory(self.output)
            source = _source(self.input, self.footage, Path(spool) / "spool", truth=self.truth)
            _tell(source.warnings)
            completer = Completer(model)
            if size:
                runs = held_out_by(completer, source.tracklets, size)
                if not runs:
                    raise InputError(f"{self.input}: no tracklet has a run of {size} frames in which nothing hides the "
                                     "person, with as many before and after it; give a smaller --hold-out.")
                model = dataclasses.replace(model, provenance=model.provenance | {"held_out": runs})
                completer.model = model
            verdict = judge(completer, source.tracklets, seed=self.seed)
        print(verdict.format())
        if self.output:
            write_summary(self.output, title="Judged completions", metrics=verdict.metrics(), model=model,
                          command=_command(), verdict=verdict, warnings=source.warnings)
            print(f"open {self.output / 'report.html'}")


@dataclass(frozen=True)
class Rank:
    """Who is it: the tracklets of a gallery most like a query, by the re-ID network of a model.

    Complete both first, with `vrstc complete`, where something hides people.
    """

    input: Input
    """The gallery: a video, or a folder of pictures."""
    query: str
    """The name of one of its tracklets, such as a track's number or 0001/c1/t3, or a folder of frames. It is not
    looked for in itself: a tracklet of the gallery, by name or by its folder, is left out of the gallery."""
    model: Path
    """A model file from `vrstc fit`, or a re-ID network from `python -m experiments.vrstc`."""
    footage: Annotated[Footage, tyro.conf.arg(name="")] = Footage()
    count: int = 10
    """How many tracklets to show."""
    output: Path | None = None
    """PNG to write: the query and the tracklets found for it."""

    def run(self) -> None:
        """Prints the nearest tracklets, and writes their picture."""
        import tempfile

        from vrstc_jax.data.images import write_png
        from vrstc_jax.models.model_file import load_reid
        from vrstc_jax.recipes.rank import nearest

        _positive(count=self.count)
        if self.output and self.output.suffix != ".png":
            raise InputError(f"--output {self.output}: the picture is a PNG; call it so.")
        model = load_reid(self.model)
        with tempfile.TemporaryDirectory() as spool:
            source = _source(self.input, self.footage, Path(spool) / "spool")
            _tell(source.warnings)
            query, gallery = _query(self.query, source)
            matches, picture = nearest(model, query, gallery, count=self.count)
        width = max([len(match.tracklet) for match in matches], default=0)
        for place, match in enumerate(matches, 1):
            print(f"{place:4d}  {match.tracklet:{width}}  {match.distance:.4f}")
        if self.output:
            write_png(self.output, picture)
            print(f"open {self.output}")


def _query(name, source):
    """(the query, the tracklets that it is looked for among)."""
    from vrstc_jax.data.inputs.folders import read_folder

    tracklets = source.tracklets
    found = [tracklet for tracklet in tracklets if tracklet.name == name]
    if not found and source.kind == "folder":
        found = [tracklet for tracklet in tracklets if _folder(source, tracklet) == Path(name).resolve()]
        if found:
            print(f"vrstc: --query {name}: is the tracklet {found[0].name} of the gallery, which is left out of it",
                  file=sys.stderr)
    if found:
        return found[0], [tracklet for tracklet in tracklets if tracklet is not found[0]]
    if not Path(name).is_dir():
        raise InputError(f"--query {name}: is neither a folder of frames nor a tracklet of the input, which has "
                         f"{', '.join(t.name for t in tracklets[:5])}{', …' if len(tracklets) > 5 else ''}.")
    return read_folder(name, pattern="frame")[0], list(tracklets)


def _folder(source, tracklet):
    """Where its frames lie; where the pattern is 'frame', that is the source's own folder."""
    place = source.path / tracklet.name
    return (place if place.is_dir() else source.path).resolve()


@dataclass(frozen=True)
class Walkers:
    """Write made-up walkers as footage: a video of a scene with boxes and masks, and folders of tracklets."""

    directory: Input
    """New folder to write."""
    people: int = 12
    """People in the folders of tracklets."""
    frames: int = 24
    """Frames in each of their tracklets."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Writes the walkers."""
        from vrstc_jax.data.walkers import write_walkers

        _positive(people=self.people, frames=self.frames)
        write_walkers(self.directory, number=self.people, frames=self.frames, seed=self.seed)
        print(f"{self.directory}: scene/ has a video, its boxes and masks; tracklets/ has folders of tracklets")


@dataclass(frozen=True)
class ModelCommand:
    """What a model file is, where it came from and what it reached."""

    action: tyro.conf.Positional[Literal["show"]]
    """show: print it."""
    path: tyro.conf.Positional[Path | None] = None
    """A model file; if left out, the default model, which comes with the package."""

    def run(self) -> None:
        """Prints the model's card."""
        from vrstc_jax.models.model_card import model_card

        print(model_card(self.path))


COMMANDS = {"demo": Demo, "fit": Fit, "complete": Complete, "judge": Judge, "rank": Rank, "model": ModelCommand,
            "walkers": Walkers}


def main(arguments: list[str] | None = None) -> None:
    """The entry point; exits with 0, or as `run_as_command` says."""
    chosen = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="vrstc", args=arguments,
        description="Finds the hidden parts of walking people and paints them back in (VRSTC, CVPR 2019).")

    def run():
        _require_local(chosen)
        chosen.run()

    run_as_command(run)


def _require_local(command):
    """Checks that no path that a command was given is in a bucket."""
    for name, value in vars(command).items():
        if dataclasses.is_dataclass(value):
            _require_local(value)
        elif isinstance(value, Path):
            require_local(value, "what `vrstc` reads and writes")


def _command():
    return shlex.join(["vrstc", *sys.argv[1:]])


@contextmanager
def _taken_back(*places):
    """If the input is refused meanwhile, whatever of these places was not there before goes, and the folders
    made above it. Process 0 makes them, so it is the one to know, and to remove them."""
    made = {_highest_missing(place.absolute()) for place in places if not place.exists()} if is_first_process() else set()
    try:
        yield
    except InputError:
        for place in made:
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                with suppress(OSError):  # a place below a file
                    place.unlink()
        raise


def _highest_missing(path):
    while not path.parent.exists():
        path = path.parent
    return path


def _model(path, *, what="using"):
    """The model in a file, or the default one, and then says so."""
    from vrstc_jax.models.model_file import load_model

    model = load_model(path)
    if path is None and is_first_process():
        print(f"vrstc: {what} the default model, made on made-up walkers alone (`vrstc model show`)", file=sys.stderr)
    return model


def _tell(warnings):
    for warning in warnings if is_first_process() else ():
        print(f"vrstc: warning: {warning}", file=sys.stderr)


def _source(path, footage, spool, *, truth=None):
    from vrstc_jax.data.inputs.sources import open_source
    from vrstc_jax.runtime import distributed

    opened = []

    def look():
        opened.append(open_source(path, boxes=footage.boxes, masks=footage.masks, truth=truth,
                                  pattern=footage.pattern, spool=spool))

    distributed.run_on_first(look)  # process 0 lays out the crops of a video; the others then find them
    if not opened:
        look()
    return opened[0]


def _identity(path, footage):
    """What tells one input from another: names, sizes and times of change."""
    def of(file):
        if file is None:
            return None
        if not os.path.isfile(file):
            return str(Path(file).absolute())
        status = os.stat(file)
        return [str(Path(file).absolute()), status.st_size, int(status.st_mtime)]

    return {"input": of(path), "boxes": of(footage.boxes), "masks": of(footage.masks),
            "pattern": footage.pattern}


def _positive(**values):
    for name, value in values.items():
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be more than 0. Got {value}.")
