"""Pages of results: their parts, their pictures, and that wrong ones are not written."""

import pytest
import yaml

from rllib_distill.errors import DistillError
from rllib_distill.results import read_page
from tests.results.recorded import distral, evaluations, run, save


@pytest.fixture
def page(tmp_path):
    """Returns a function that writes a page of those sections, beside some runs, and reads it."""
    save(
        tmp_path,
        losses=run({"pong": (1, 2, 2)}, loss="kl"),
        online=run({"pong": (1, 2, 2)}, evaluations=evaluations([1, 2], [2, 1])),
        curves=distral("a3c", [0, 10], a=[0, 1]),
    )

    def page(*sections):
        path = tmp_path / "page.yaml"
        path.write_text(yaml.safe_dump({"title": "Results", "text": "All.", "sections": list(sections)}))
        return read_page(path)

    return page


def test_that_a_page_is_whole_and_the_same_every_time(page, tmp_path):
    page = page(
        {"title": "Three losses", "text": "They differ.", "rows": "loss", "runs": "losses.json"},
        {"title": "Learning: teachers!", "kind": "stability", "runs": ["online.json"]},
    )
    out = tmp_path / "page.md"
    files = page.write(out, "rllib results page.yaml")
    assert [path.name for path in files] == ["page_learning_teachers.png", "page.md"]
    text = out.read_text()
    parts = [
        "# Results",
        "All.",
        "## Three losses",
        "They differ.",
        "| kl | 1.000 |",
        "## Learning: teachers!",
        "](page_learning_teachers.png)",
        "## How this page was made",
        "`rllib results page.yaml`",
        "2 recorded runs",
        "- `rllib train file x.yaml` (2 runs)",
        "python 3.11.7, ray 2.60.0",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places) and "\n\n\n" not in text
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in page.write(out, "rllib results page.yaml")] == before


def test_that_an_error_names_the_section_and_nothing_is_written(page, tmp_path):
    good = {"title": "Good", "rows": ["loss"], "runs": "losses.json"}
    with pytest.raises(DistillError, match="Section 'Bad': rows has the key 'tau'"):
        page(good, good | {"title": "Bad", "rows": ["tau"]}).write(tmp_path / "page.md", "")
    assert not (tmp_path / "page.md").exists()


def test_that_curves_are_a_section_of_a_page(page, tmp_path):
    section = {"title": "Curves", "kind": "curves", "rows": "variant", "runs": "curves.json"}
    files = page(section).write(tmp_path / "page.md", "")
    assert [path.name for path in files] == ["page_curves.png", "page.md"]
    text = files[1].read_text()
    assert "| a3c | 0.500 |" in text and "![Curves: returns while training](page_curves.png)" in text


def test_that_labels_of_numbers_and_truths_are_those_of_their_rows(page):
    section = {"title": "Curves", "kind": "curves", "rows": "beta", "runs": "curves.json"}
    (read,) = page(section | {"labels": {0.5: "half", True: "yes"}}).file.sections
    assert read.labels == {"0.5": "half", "true": "yes"}
