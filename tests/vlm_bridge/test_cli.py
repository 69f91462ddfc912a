"""The command line end to end on a tiny model folder; every refusal is one line and exit code 2."""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
from importlib import import_module

import pytest
import torch

from estimators import Profile
from tests.vlm_bridge.command_line import run
from tests.vlm_bridge.tiny import picture
from theory import Certificate
from vlm_bridge import __version__, cli
from vlm_bridge.cli.lazy import COMMANDS, find_function, load_command
from vlm_bridge.cli.replacing import RESULTS, held_in
from vlm_bridge.plan.modes import LAYERWISE
from vlm_bridge.plan.skip_plan import SkipPlan
from vlm_bridge.plan.text import read_plan
from vlm_bridge.rules import RULES
from vlm_bridge.skip.describe import ModelDescription


def other_images(folder):
    picture(77).save(folder / "77.png")
    row = {"image": "77.png", "question": "is there a circle ?", "answer": "no"}
    path = folder / "others.jsonl"
    path.write_text(json.dumps(row))
    return path


def test_the_path(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "out"
    data = ("--data", jsonl)
    assert run("profile", folder, *data, "--out", out / "profile.json") == 0
    found = Profile.from_json(json.loads((out / "profile.json").read_text()))
    assert found.n_layers == 4
    assert "random weights" in json.loads((out / "profile-null.json").read_text())["model"]
    assert (out / "profile.png").stat().st_size > 10_000
    plan_file = out / "plan.json"
    arguments = ("--profile", out / "profile.json", "--epsilon", "0.9", "--limit", 2)
    arguments += ("--max-new-tokens", 4)
    assert run("plan", folder, *data, *arguments, "--out", plan_file) == 0
    plan = SkipPlan.read(plan_file)
    assert plan.provenance.rule == "skip-it"
    certificate = ("--epsilon", "0.5", "--out", out / "certificates.json")
    certificate += ("--max-new-tokens", 4)
    assert run("certify", folder, plan_file, *data, *certificate) == 2  # these images tuned it
    others = other_images(tmp_path)
    assert run("certify", folder, plan_file, "--data", others, *certificate) == 0
    made = [Certificate.from_json(c) for c in json.loads((out / "certificates.json").read_text())]
    assert [c.quantity for c in made] == ["disagreement", "accuracy_drop"]
    said = capsys.readouterr().out
    assert all(c.sentence() in said and c.plan_hash == plan.hash() for c in made)
    short = ("--max-new-tokens", 4)
    assert run("compare", folder, plan_file, *data, *short, "--out", out / "comparison.json") == 0
    assert "flops_ratio" in json.loads((out / "comparison.json").read_text())["cost"]["prefill"]
    sweep = ("--step", 2, "--mode", "block", "--mode", "early_exit", "--out", out / "sweep")
    assert run("sweep", folder, *data, *sweep) == 0
    assert len(json.loads((out / "sweep" / "sweep.json").read_text())) == 3 + 3
    assert all((out / "sweep" / name).is_file() for name in ("depth.png", "layers.png"))
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command, capsys):
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    assert "Example:" in text
    assert f"skipit {command}" in text
    assert run(command, "-h") == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_json(command):
    assert "--json" in {option for p in load_command(command).params for option in p.opts}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(*command.split(), "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line or line.endswith("...") for line in lines[2:])


@pytest.mark.parametrize("command", COMMANDS)
def test_summaries_are_what_the_commands_say(command):
    function = find_function(command)
    assert function.__name__ == command
    assert COMMANDS[command][1] == (function.__doc__ or "").splitlines()[0]


def test_every_command_is_in_the_table():
    """A public function of a command module that has an example is a command."""
    modules = pkgutil.iter_modules(cli.__path__, "vlm_bridge.cli.")
    found = {
        f"{module.name}:{name}"
        for module in modules
        for name, function in vars(import_module(module.name)).items()
        if inspect.isfunction(function) and function.__module__ == module.name
        if "Example: `skipit" in (function.__doc__ or "")
    }
    assert found == {f"vlm_bridge.cli.{module}:{name}" for name, (module, _) in COMMANDS.items()}


def test_help_lists_the_commands_in_order(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    places = [text.index(f" {command}  ") for command in COMMANDS]
    assert places == sorted(places)
    assert "--install-completion" in text
    assert run("-h") == 0
    assert capsys.readouterr().out == text


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"skipit {__version__}\n"


def test_an_unknown_command_is_refused(capsys):
    assert run("profil") == 2
    assert "Did you mean 'profile'" in capsys.readouterr().err


def test_describe_cost_and_prune(folder, tmp_path, capsys):
    assert run("describe", folder, "--json") == 0
    found = ModelDescription.from_json(json.loads(capsys.readouterr().out))
    assert found.n_layers == 4
    assert not any(found.modes.values())
    assert run("describe", folder) == 0
    assert "LlavaForConditionalGeneration" in capsys.readouterr().out
    few = ("--batch-size", 2, "--pairs", 1, "--side", 16, "--tokens", 2)
    out = tmp_path / "cost.json"
    assert run("cost", folder, "early_exit exit=2", *few, "--out", out) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("prefill", "per token", "KV cache", "peak"))
    body = json.loads(out.read_text())
    assert body["cost"]["prefill"]["flops_ratio"] < 1
    assert SkipPlan.from_json(body["plan"]) == SkipPlan("early_exit", 4, exit=2)
    assert run("prune", folder, "block layers=1", "--out", tmp_path / "small") == 0
    assert json.loads((tmp_path / "small" / "config.json").read_text())


def said_as_json(capsys, *arguments):
    """The JSON that a command prints, and nothing else."""
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", ["rules", "methods", "verify S3 --trials 5"])
def test_lists_are_printed_as_json(words, capsys):
    rows = said_as_json(capsys, *words.split())
    assert rows
    assert all(isinstance(row, dict) for row in rows)


def test_json_is_what_the_file_holds(folder, jsonl, tmp_path, capsys):
    out = tmp_path / "out"
    few = ("--data", jsonl, "--limit", 2)
    profile = ("profile", folder, *few, "--no-null", "--out", out / "profile.json")
    plan = ("plan", folder, *few, "--profile", out / "profile.json", "--epsilon", "0.9")
    words, short = (folder, "early_exit exit=2"), ("--max-new-tokens", 4)
    runs = {
        "profile.json": profile,
        "plan.json": (*plan, *short, "--out", out / "plan.json"),
        "certificates.json": ("certify", *words, *few, *short, "--out", out / "certificates.json"),
        "comparison.json": ("compare", *words, *few, *short, "--out", out / "comparison.json"),
        "cost.json": ("cost", *words, "--pairs", 1, "--side", 16, "--out", out / "cost.json"),
        "sweep/sweep.json": ("sweep", folder, *few, "--step", 3, "--out", out / "sweep"),
    }
    for name, arguments in runs.items():
        assert said_as_json(capsys, *arguments) == json.loads((out / name).read_text()), name
        assert held_in(out / name) == RESULTS[arguments[0]]
    pruned = said_as_json(capsys, "prune", folder, "block layers=1", "--out", tmp_path / "small")
    assert SkipPlan.from_json(pruned["plan"]) == SkipPlan("block", 4, layers=(1,))


def test_notes_go_to_standard_error_with_json(folder, jsonl, tmp_path, capsys):
    out = ("--out", tmp_path / "profile.json", "--no-null", "--json")
    assert run("profile", folder, "--data", jsonl, *out) == 0
    assert "profile of 4 layers on" in capsys.readouterr().err


def test_states_are_kept_on_request(folder, jsonl, tmp_path):
    out = tmp_path / "profile.json"
    keep = ("--reservoir", 3, "--reservoir-width", 5, "--no-null")
    assert run("profile", folder, "--data", jsonl, "--out", out, *keep) == 0
    assert (tmp_path / "profile-states" / "states.safetensors").is_file()
    assert not list(tmp_path.glob("*checkpoint*"))


@pytest.fixture(scope="module")
def profiled(folder, tmp_path_factory):
    """The profile of the tiny model, once for every rule."""
    out = tmp_path_factory.mktemp("profiled")
    picture(5).save(out / "5.png")
    row = {"image": "5.png", "question": "is there a circle ?", "answer": "no"}
    (out / "items.jsonl").write_text(json.dumps(row))
    data = ("--data", out / "items.jsonl", "--no-null")
    assert run("profile", folder, *data, "--out", out / "profile.json") == 0
    for number in range(24):
        picture(number).save(out / f"many-{number}.png")
    many = [row | {"image": f"many-{number}.png"} for number in range(24)]
    (out / "many.jsonl").write_text("\n".join(map(json.dumps, many)))
    return out


@pytest.mark.parametrize("name", RULES)
def test_plan_takes_every_rule(folder, profiled, tmp_path, capsys, name):
    several = RULES[name].condition == "informational" or name in ("cka", "vision-swap")
    asked = "many.jsonl" if several else "items.jsonl"
    data = ("--data", profiled / asked, "--profile", profiled / "profile.json")
    out = tmp_path / "plan.json"
    arguments = ("--rule", name, "--mode", RULES[name].modes[-1], "--epsilon", "0.9")
    arguments += ("--max-new-tokens", 4)
    assert run("plan", folder, *data, *arguments, "--out", out) == 0
    plan = SkipPlan.read(out)
    assert plan.provenance.rule == name
    by_layer = RULES[name].modes[-1] in LAYERWISE
    said = "that of the profile included" if by_layer else "all were tried"
    assert said in capsys.readouterr().out
    looks_ahead = RULES[name].requires in ("candidate runs", "labels")
    if RULES[name].modes[-1] in ("block", "freeze", "sublayer"):  # depths have their own order
        passes = 2.0 if name == "relative-error" else 1.0
        assert (plan.provenance.settings["forward_cost"] > passes) == looks_ahead


def test_a_rule_that_needs_more_questions_says_so(folder, profiled, tmp_path, capsys):
    data = ("--data", profiled / "items.jsonl", "--profile", profiled / "profile.json")
    assert run("plan", folder, *data, "--rule", "cka", "--out", tmp_path / "plan.json") == 2
    assert "rule 'cka' needs at least 4 questions, got 1" in capsys.readouterr().err


def test_a_rule_that_requires_nothing_needs_no_profile(folder, profiled, tmp_path):
    data = ("--data", profiled / "items.jsonl", "--profile", tmp_path / "none.json")
    short = ("--max-new-tokens", 2, "--out", tmp_path / "plan.json")
    assert run("plan", folder, *data, "--rule", "random", *short) == 0
    assert SkipPlan.read(tmp_path / "plan.json").provenance.rule == "random"


@pytest.mark.slow
def test_labels_that_are_missing_are_named(folder, profiled, tmp_path, capsys):
    rows = [json.loads(line) for line in (profiled / "many.jsonl").read_text().splitlines()[:4]]
    words = ("early_exit exit=3", "--data", tmp_path / "data.jsonl", "--images", profiled)
    words += ("--max-new-tokens", 2)
    said = {}
    for labelled in (0, 2):
        kept = [row if k < labelled else row | {"answer": None} for k, row in enumerate(rows)]
        (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, kept)))
        for verb in ("compare", "certify"):
            out = ("--out", tmp_path / f"{verb}-{labelled}.json")
            certifying = ("--no-ledger", "--epsilon", "0.9") if verb == "certify" else ()
            assert run(verb, folder, *words, *out, *certifying) == 0
            said[verb, labelled] = capsys.readouterr().out
    assert "no accuracy drop: no question has a label" in said["certify", 0]
    assert "no accuracy drop" not in said["certify", 2]
    assert "no accuracy: no question has a label" in said["compare", 0]
    assert "accuracy: full " in said["compare", 2]
    assert "; 2 of 4 questions have no label" in said["compare", 2]


def test_a_mode_the_rule_has_not(folder, profiled, refused):
    data = ("--data", profiled / "items.jsonl", "--profile", profiled / "profile.json")
    refused(
        "plan", folder, *data, "--rule", "shortv", "--mode", "block",
        says="rule 'shortv' has no mode 'block'; it has freeze",
    )  # fmt: skip


@pytest.mark.slow
def test_check_makes_a_failed_certificate_an_exit_code(folder, jsonl, tmp_path, capsys):
    """Without the option the exit code is 0; the files and the JSON are complete either way."""
    out = tmp_path / "certificates.json"
    certify = ("certify", folder, "early_exit exit=4", "--data", jsonl, "--max-new-tokens", 2)
    certify += ("--out", out)
    for epsilon, checked, code in (("0.6", True, 0), ("0.02", False, 0), ("0.02", True, 1)):
        options = ("--epsilon", epsilon, *(["--check"] if checked else []))
        assert run(*certify, *options) == code
    said = capsys.readouterr()
    assert said.err.count("5 images: epsilon ") == 3
    (needed,) = set(re.findall(r"epsilon 0.02 is out of reach, it needs at least (\d+)", said.err))
    assert f"no answer changed; {needed} images would certify epsilon 0.02 if none" in said.out
    assert "disagreement of answers up to 2 tokens <= " in said.out
    assert run(*certify, "--epsilon", "0.02", "--check", "--json") == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert [one["max_new_tokens"] for one in printed] == [2, 2]


def test_search_says_what_it_can_reach_and_checks(folder, profiled, tmp_path, capsys):
    data = ("--data", profiled / "items.jsonl", "--certification", other_images(tmp_path))
    search = ("search", folder, *data, "--how", "bands", "--max-new-tokens", 2)
    assert run(*search, "--out", tmp_path / "a", "--check") == 1
    said = capsys.readouterr()
    assert (
        "1 image: epsilon 0.95 is the best within reach (no answer changes, delta 0.05); "
        in said.err
    )
    assert "no plan could be certified at epsilon 0.02" in said.out
    body = json.loads((tmp_path / "a" / "search.json").read_text())
    assert body["plan"]["provenance"]["max_new_tokens"] == 2
    assert not (tmp_path / "a" / "plan.json").exists()
    assert said.out.count("tested: ") == len(body["certificates"])


@pytest.mark.parametrize("how", ["nested", "greedy", "bands"])
def test_search(folder, profiled, tmp_path, capsys, how):
    others = other_images(tmp_path)
    out = tmp_path / "search"
    arguments = ("--data", profiled / "items.jsonl", "--certification", others, "--how", how)
    arguments += ("--max-new-tokens", 4)
    assert run("search", folder, *arguments, "--epsilon", "0.96", "--out", out) == 0
    body = json.loads((out / "search.json").read_text())
    assert body["type"] == "CertifiedPlan"
    said = capsys.readouterr().out
    assert said.count("tested: ") == len(body["certificates"])
    if body["certificate"] is None:
        assert not (out / "plan.json").exists()
        assert "with probability" not in said
        return
    assert SkipPlan.read(out / "plan.json").to_json() == body["plan"]
    assert said.count("with probability") == said.count("certified: ") == 1  # the last line alone
    assert Certificate.from_json(body["certificate"]).sentence() in said


def test_search_refuses_another_way(folder, profiled, refused):
    data = ("--data", profiled / "items.jsonl", "--certification", profiled / "items.jsonl")
    refused("search", folder, *data, "--how", "luck", says="choose from nested, greedy, bands")
    refused("search", folder, *data, says="1 images are in both splits")


@pytest.mark.parametrize(
    ("words", "plan"),
    [
        ("block layers=0,2-3", SkipPlan("block", 4, layers=(0, 2, 3))),
        ("late_entry entry=1", SkipPlan("late_entry", 4, entry=1)),
        ("sublayer attention=1 mlp=0-1", SkipPlan("sublayer", 4, attention=(1,), mlp=(0, 1))),
        ("token_pruning after=2 keep=0.25", SkipPlan("token_pruning", 4, after=2, keep=0.25)),
        (
            "band entry=1 exit=3 + freeze layers=2",
            SkipPlan.compose(
                SkipPlan("band", 4, entry=1, exit=3), SkipPlan("freeze", 4, layers=(2,))
            ),
        ),
    ],
)
def test_a_plan_in_words(words, plan):
    assert read_plan(words)(4) == plan


def test_words_that_spell_no_plan(folder, refused):
    modes = "a part is a mode (block, freeze, vision_attention, vision_mlp, early_exit, late_entry"
    refused(
        "cost",
        folder,
        "skip=3",
        says=f"'skip=3' is neither a plan file nor a plan in words; {modes}",
    )
    refused("cost", folder, "block layers=1 +", says="'block layers=1 +' is neither a plan")
    refused("cost", folder, "block layer=3", says="a plan has no 'layer'; it has layers, attention")
    said = "'layers=x' in the plan 'block layers=x' is not a list of numbers and ranges"
    refused("cost", folder, "block layers=x", says=said)
    refused("cost", folder, "early_exit exit=9", says="exit 9 is out of range 0 to 4")


def test_help_lists_every_command(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_rules_are_listed(capsys):
    assert run("rules") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    about = ["condition", "origin", "source", "deviation"]
    assert lines[0] == ["name", "modes", "stacks", "requires", *about]
    assert [line[0] for line in lines[1:]] == list(RULES)
    assert lines[-1][2:4] == ["any", "nothing"]


def test_listed_rules_are_what_the_rules_say(capsys):
    assert run("rules", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"name": one.name, "modes": list(one.modes), "stacks": one.stacks}
        | {"requires": one.requires}
        | {"condition": one.condition, "origin": one.origin, "source": one.source}
        | {"deviation": one.deviation}
        for one in RULES.values()
    ]


def test_verify_mirrors_the_theory(capsys):
    assert run("verify", "S3", "S9", "--trials", 20, "--json") == 0
    assert [found["id"] for found in json.loads(capsys.readouterr().out)] == ["S3", "S9"]
    assert run("verify", "S3", "--trials", 20, "--seed", 1) == 0
    assert "1 of 1 statements hold" in capsys.readouterr().out


@pytest.fixture
def refused(capsys, tmp_path):
    """Run a command that must be refused: exit code 2, one line, nothing written."""

    def check(*arguments: object, says: str) -> None:
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        assert run(*arguments) == 2
        error = capsys.readouterr().err.strip()
        assert error.count("\n") == 0, error
        assert error.startswith("skipit: ")
        assert says in error
        assert {p for p in tmp_path.rglob("*") if p.is_file()} == before

    return check


def test_refusals(folder, jsonl, tmp_path, refused):
    out = ("--out", tmp_path / "o" / "x.json")
    data = ("--data", jsonl)
    refused("profile", "nothing", *data, *out, says="unknown model 'nothing': give one of")
    refused("profile", tmp_path / "no", *data, *out, says=f"no model folder at {tmp_path / 'no'}")
    refused("profile", tmp_path, *data, *out, says="is not a model folder: it has no config.json")
    refused("profile", folder, "--data", "x.jsonl", *out, says="no data file at x.jsonl")
    refused("profile", folder, "--data", "easy-vqa:dev", *out, says="easy-vqa has no split 'dev'")
    refused("profile", folder, *data, *out, "--dtype", "int4", says="unknown dtype 'int4'")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    refused("profile", folder, "--data", empty, *out, says="empty.jsonl holds no items")
    refused("profile", folder, *data, "--out", tmp_path, says="is a folder; name a file to write")
    blocked = jsonl / "x.json"
    refused("profile", folder, *data, "--out", blocked, says="cannot write to")
    none = ("--profile", "none.json")
    refused("plan", folder, *data, *out, *none, says="no profile at none.json; make one with")
    refused(
        "certify",
        folder,
        "block layers=1",
        *data,
        *out,
        "--method",
        "foo",
        says="from auto, label-f",
    )
    if not torch.cuda.is_available():
        cuda = ("--device", "cuda")
        refused(
            "compare",
            folder,
            "block layers=1",
            *data,
            *out,
            *cuda,
            says="cannot run on 'cuda': it has no CUDA device",
        )
    refused("plan", folder, *data, *out, "--profile", jsonl, says="is not JSON")
    refused("certify", folder, "none.json", *data, *out, says="no plan file at none.json")
    refused("verify", "S99", says="no statement 'S99'; there are ")
    refused("report", "none.json", "--out", tmp_path / "r", says="no results file at none.json")


def test_plans_that_do_not_fit(folder, jsonl, tmp_path, refused):
    out = ("--data", jsonl, "--out", tmp_path / "o" / "x.json")
    path = tmp_path / "plan.json"

    def write(**changes):
        body = {**SkipPlan("band", 4, entry=1, exit=3).to_json(), **changes}
        path.write_text(json.dumps(body))

    write(entry=3, exit=1)
    refused("certify", folder, path, *out, says="band: entry 3 is not before exit 1")
    write(mode="block", entry=None, exit=None, layers=[9])
    refused(
        "certify", folder, path, *out, says="layer 9 is out of range; the model has layers 0 to 3"
    )
    write(n_layers=30)
    refused("certify", folder, path, *out, says="made for 30 layers, the model has 4")
    path.write_text("{}")
    refused("certify", folder, path, *out, says="not a SkipPlan")


def test_a_broken_weights_file(folder, jsonl, tmp_path, refused):
    broken = tmp_path / "broken"
    broken.mkdir()
    for source in folder.iterdir():
        (broken / source.name).write_bytes(source.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\x00" * 64)
    refused(
        "profile",
        broken,
        "--data",
        jsonl,
        "--out",
        tmp_path / "x.json",
        says=f"cannot load '{broken}'",
    )


def test_pickled_weights_are_not_read(folder, jsonl, tmp_path, refused):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for source in folder.iterdir():
        if source.suffix != ".safetensors":
            (pickled / source.name).write_bytes(source.read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    out = ("--data", jsonl, "--out", tmp_path / "x.json")
    refused("profile", pickled, *out, says=f"cannot load '{pickled}'")
