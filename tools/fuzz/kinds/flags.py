"""Flags with values that no user means, of all commands."""

import random
from pathlib import Path

from tools.fuzz import mutation
from tools.fuzz.good import Good
from tools.fuzz.kinds.records import untrained
from tools.fuzz.tries import Try, command

# Each command's numeric flags, and values at which it is quick.
_NUMBERS = {
    "complete": {"first-frame": ("1",)},
    "fit": {"steps": ("1", "2"), "reid-steps": ("1",), "hold-out": ("0", "1", "2"), "tau": ("0.3", "-1", "1"),
            "learning-rate": ("0.001", "10"), "seed": ("0", "7")},
    "judge": {"hold-out": ("1", "2"), "seed": ("0", "3")},
    "rank": {"count": ("1", "5")},
    "walkers": {"people": ("1",), "frames": ("1",), "seed": ("0",)},
    "demo": {"seed": ("0",)}}
_CHOICES = {"fit": {"size": ("smoke", "x", "", "SMOKE", "None"), "hide": ("bands", "shapes", "x", "")},
            "complete": {"layout": ("both", "x", ""), "pattern": ("frame", "x", "person/frame")},
            "judge": {"pattern": ("frame", "x")}, "demo": {"size": ("tiny", "", "full", "None")}}
_SWITCHES = ("--fresh", "--no-fresh", "--help", "--version", "-h", "--x", "-", "--", "---", "--output", "--model",
             "--=x", "--seed", "--seed=", "show", "\x00", "--fresh=1")


def flags(rng: random.Random, folder: Path, good: Good) -> Try:
    """A command on a good input, with one to three odd flags."""
    name = rng.choice(sorted(_NUMBERS))
    words: list[str] = []
    options = {flag: (*mutation.NUMBERS, *usual * 8) for flag, usual in _NUMBERS[name].items()} | _CHOICES.get(name, {})
    for _ in range(rng.randint(1, 3)):
        flag = rng.choice(sorted(options))
        words.append(f"--{flag}={rng.choice(options[flag])}")
    if rng.random() < 0.15:
        words.insert(rng.randrange(len(words) + 1), rng.choice(_SWITCHES))
    model = str(good.model_file)
    if name in ("complete", "judge", "rank", "fit"):
        good.crops(folder / "in", count=7 if name == "judge" else 3)
    match name:
        case "complete":
            return command(name, "in", "--output", "o", "--model", model, *words, outputs=("o",))
        case "judge":
            return command(name, "in", "--output", "o", "--model", model, "--hold-out", 2, *words, outputs=("o",))
        case "rank":
            return command(name, "in", "--query", "a", "--output", "o.png", "--model", model, *words,
                           outputs=("o.png",))
        case "fit":
            chosen = [] if any(word.startswith("--size") for word in words) else ["--size", "smoke"]
            return untrained(command(name, "in", "--output", "m", *chosen, *words, outputs=("m", "m.work")), good)
    # A scene of walkers takes half a minute, a demonstration minutes: at least the last flag is wrong.
    wrong = rng.choice(("--seed=-1", "--seed=x", "--seed=nan", f"--seed={10**40}", "--seed=1e5", "--x", "--seed="))
    return command(name, "d", *words, wrong, outputs=("d",))
