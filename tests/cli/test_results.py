"""`rllib record` and `rllib results`: from trials to a page, and the mistakes on the way."""

import json
from pathlib import Path

import pytest
import yaml

from rllib_distill.files import read_yaml
from rllib_distill.results import read_page
from tests.results.recorded import run, save, training_curve

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write_page(tmp_path):
    """Returns a function that writes a page of one section, with changes, beside two recorded runs."""
    losses = {"kl": 9.0, "nll": 8.0}
    curve = training_curve([0, 100], pong=[0.0, 1.0])
    runs = {n: run({"pong": (1, 10, mean)}, loss=n, curve=curve) for n, mean in losses.items()}
    save(tmp_path / "recorded", **runs)

    def write_page(**changes):
        section = {"title": "Losses", "runs": "recorded/*.json", "rows": ["loss"], **changes}
        path = tmp_path / "page.yaml"
        path.write_text(yaml.safe_dump({"title": "Results", "sections": [section]}))
        return path

    return write_page


def test_that_trials_become_a_page(rllib, write_file, mimic, tmp_path):
    """The whole way, with a real run of two seeds that is evaluated while it trains."""
    mimic["config"] |= {"seed": {"grid_search": [0, 1]}, "evaluation_interval": 1, "evaluation_duration": 2}
    outcome = rllib("train", "file", write_file({"mimic": mimic}))
    assert outcome.code == 0, outcome
    trials = sorted(path.parent for path in (tmp_path / "results" / "mimic").glob("*/scores.json"))

    outcome = rllib("record", *trials, "--to", "docs/recorded/one")
    assert outcome.code == 0, outcome
    copies = sorted(Path("docs/recorded/one").iterdir())
    assert [copy.name for copy in copies] == [f"{trial.name}.json" for trial in trials]
    for trial, copy in zip(trials, copies, strict=True):
        here = f"{Path.cwd()}/"  # of no use where the copy is read, and nobody's business
        whole = json.loads((trial / "scores.json").read_text().replace(here, ""))
        kept = json.loads(copy.read_text())
        assert here not in copy.read_text()
        for policy in ("random", "expert", "student"):
            assert len(whole["tasks"]["pole"][policy].pop("returns")) == 3
        assert kept == whole and len(kept["evaluations"]) == 2
        assert all(e["student"]["pole"] > 0 and "experts" not in e for e in kept["evaluations"])
        points = [(point["env_steps"], point["returns"]["pole"]) for point in kept["training_curve"]]
        assert points[-1][0] == kept["training"]["env_steps"] and all(mean > 0 for _, mean in points)

    section = {"title": "One game", "runs": "recorded/one/*.json", "rows": ["algorithm", "network.type"]}
    Path("docs/page.yaml").write_text(yaml.safe_dump({"title": "Results", "sections": [section]}))
    outcome = rllib("results", "docs/page.yaml")
    assert outcome.code == 0 and outcome.out.split() == ["docs/page.md"], outcome
    page = Path("docs/page.md").read_text()
    assert "| ActorMimic | mlp | " in page and "| 0, 1 |" in page


def test_that_a_page_has_curves_as_one_says(rllib, write_page):
    options = {"threshold": 1, "from_env_steps": 50, "labels": {"kl": "Kullback-Leibler"}}
    outcome = rllib("results", write_page(kind="curves", **options))
    assert outcome.code == 0 and outcome.out.split() == ["page_losses.png", "page.md"], outcome
    page = Path("page.md").read_text()
    for part in ("| loss | area under the curve |", "env steps to 1 |", "from 50 to 100"):
        assert part in page
    assert "| Kullback-Leibler | 0.750 | 0.975 | - | 1 | 100 |" in page and "| nll | 0.750 |" in page


def test_that_the_page_may_be_elsewhere(rllib, write_page, tmp_path):
    outcome = rllib("results", write_page(), "--out", "new/other.md")
    assert outcome.code == 0 and (tmp_path / "new" / "other.md").exists(), outcome
    assert not (tmp_path / "page.md").exists()


WRONG_PAGES = {
    "no runs": ({"runs": "recorded/gone*.json"}, "'Losses'", "'recorded/gone*.json'", "rllib record"),
    "one of several without runs": ({"runs": ["recorded/kl.json", "recorded/x.json"]}, "recorded/x.json"),
    "runs missing": ({"runs": []}, "sections[0].runs", "recorded/losses/*.json"),
    "rows missing": ({"rows": []}, "rows", "[loss]"),
    "rows of stability": ({"kind": "stability"}, "rows", "leave it out"),
    "unknown kind": ({"kind": "score"}, "'score'", "'scores'"),
    "unknown key": ({"row": ["loss"]}, "'row'", "'rows'"),
    "a title that is no text": ({"title": 5}, "sections[0].title is 5", "text"),
    "stability without evaluations": (
        {"kind": "stability", "rows": [], "runs": "recorded/kl.json"},
        "'Losses'",
        "evaluation_interval",
    ),
    "curves without rows": ({"kind": "curves", "rows": []}, "'Losses'", "rows", "[loss]"),
    "a threshold of scores": ({"threshold": 1}, "'Losses'", "threshold", "kind: curves", "'scores'"),
    "a threshold that is text": ({"kind": "curves", "threshold": "1e3"}, "threshold is '1e3'", "a number"),
    "a start that is missing": ({"kind": "curves", "from_env_steps": None}, "from_env_steps is None"),
    "a start below 0": ({"kind": "curves", "from_env_steps": -1}, "from_env_steps is -1", ">= 0"),
    "labels that are a list": ({"kind": "curves", "labels": ["kl"]}, "labels is ['kl']", "rows to texts"),
    "a label that is no text": ({"kind": "curves", "labels": {"kl": 1}}, "labels is {'kl': 1}"),
    "one label of two rows": ({"kind": "curves", "labels": {"kl": "nll"}}, "'nll'", "name them apart"),
}


@pytest.mark.parametrize("case", WRONG_PAGES)
def test_that_a_wrong_page_is_refused(case, rllib, write_page, tmp_path):
    changes, *parts = WRONG_PAGES[case]
    refused(rllib("results", write_page(**changes)), *parts)
    assert not list(tmp_path.glob("*.md"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[1]", ["[1]", "mapping"]),
        ("title: x", ["'sections'", "missing"]),
        ("{title: x, sections: []}", ["sections is []", "list"]),
        ("sections: [{}]\ntitle: x", ["title", "sections[0]"]),
        ("title: [", ["not valid YAML"]),
    ],
)
def test_that_what_is_no_page_is_refused(text, parts, rllib):
    Path("page.yaml").write_text(text)
    refused(rllib("results", "page.yaml"), "page.yaml", *parts)


def test_that_a_missing_page_and_another_kind_of_file_are_refused(rllib, write_page):
    refused(rllib("results", "gone.yaml"), "results file gone.yaml", "No such file")
    refused(rllib("results", write_page(), "--out", "page.html"), "--out", "page.html", ".md")


def test_that_folders_without_scores_are_refused_and_nothing_is_written(rllib, tmp_path):
    save(tmp_path / "good", scores=run({"pong": (1, 2, 2)}))
    (tmp_path / "bad").mkdir()
    refused(rllib("record", "good", "bad", "--to", "kept"), "bad has no scores.json")
    refused(rllib("record", "good", "good", "--to", "kept"), "'good'", "once")
    refused(rllib("record", "--to", "kept"), "trials")
    assert not (tmp_path / "kept").exists()


def test_that_this_repositorys_page_can_be_read(tmp_path):
    """Its runs may be still to come: these stand in for them."""
    save(tmp_path, a=run({"pong": (1, 2, 2)}))
    page = read_yaml(ROOT / "docs" / "results.yaml", "results file")
    for section in page["sections"]:
        section["runs"] = "a.json"
    (tmp_path / "page.yaml").write_text(yaml.safe_dump(page))
    assert len(read_page(tmp_path / "page.yaml").file.sections) == len(page["sections"])


def refused(outcome, *parts):
    assert outcome.code == 2 and outcome.err.startswith("error: ") and outcome.err.count("\n") == 1, outcome
    assert all(part in outcome.err for part in parts), outcome.err
