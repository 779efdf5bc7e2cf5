"""Files that people write are read into models, and each mistake in them is told in one line."""

import subprocess
import sys
from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from rllib_distill.errors import DistillError
from rllib_distill.schema import Schema, validate


class Shelf(Schema):
    title: str = Field(min_length=1)
    count: int = Field(1, ge=1)
    weight: float | None = None
    kind: Literal["low", "high"] = "low"
    books: str | tuple[str, ...] = ()
    span: tuple[float, float] = Field((0.0, 1.0), description="two numbers, e.g. [0, 1]")
    grid: tuple[tuple[int, ...], ...] = ()
    labels: dict[str, str] = Field({})
    anything: dict[str, Any] = Field({})

    @field_validator("span")
    @classmethod
    def ascends(cls, span: tuple[float, float]) -> tuple[float, float]:
        if span[0] > span[1]:
            raise ValueError("the lower one comes first.")
        return span


class Room(Schema):
    name: str = Field(description="the room's name, e.g. kitchen")
    shelves: tuple[Shelf, ...] = Field(min_length=1)
    lamp: Shelf | None = None

    @model_validator(mode="before")
    @classmethod
    def has_no_carpet(cls, values: Any) -> Any:
        if isinstance(values, dict) and "carpet" in values:
            raise DistillError("there are no carpets any more: leave it out.")
        return values


def room(**shelf):
    return {"name": "hall", "shelves": [{"title": "A"}, {"title": "B", **shelf}]}


def test_that_lists_become_tuples_at_any_depth_but_not_where_anything_goes():
    read = validate(Room, room(grid=[[1, 2], []], books=["x"], span=[0, 2.5], anything={"a": [1]}))
    assert read.shelves[1].grid == ((1, 2), ())
    assert (read.shelves[1].books, read.shelves[1].span) == (("x",), (0.0, 2.5))
    assert read.shelves[1].anything == {"a": [1]}


def test_that_a_model_does_not_change():
    read = validate(Room, room())
    with pytest.raises(ValidationError, match="frozen"):
        read.name = "attic"


WRONG = {
    "no mapping": (5, "room.yaml is 5; it must be a mapping with the keys name, shelves, lamp."),
    "a missing key": (
        {"shelves": []},
        "the key 'name' is missing; it must be the room's name, e.g. kitchen.",
    ),
    "a missing key inside": ({"name": "x", "shelves": [{}]}, "the key 'title' is missing in shelves[0]."),
    "an unknown key": (room() | {"nam": "x"}, "unknown key 'nam'. Did you mean 'name'? Known: lamp, name"),
    "an unknown key hides a missing one": ({"nam": 1, "shelves": []}, "unknown key 'nam'. Did you mean"),
    "an unknown key inside": (room(titel="x"), "unknown key 'titel' in shelves[1]. Did you mean 'title'?"),
    "a key that is no text": (room() | {5: 1}, "unknown key 5. Known: lamp"),
    "a key of a mapping": (room(labels={5: "x"}), "the key 5 of shelves[1].labels is not text: write"),
    "text": ({"name": 3, "shelves": []}, "name is 3; it must be the room's name, e.g. kitchen."),
    "empty text": (room(title=""), "shelves[1].title is ''; it must be a text that is not empty."),
    "an empty list": ({"name": "x", "shelves": []}, "shelves is []; it must be a list of at least 1."),
    "a model": ({"name": "x", "shelves": [3]}, "shelves[0] is 3; it must be a mapping with the keys title"),
    "an optional model": (room() | {"lamp": 3}, "lamp is 3; it must be a mapping with the keys title, count"),
    "a truth for an integer": (room(count=True), "shelves[1].count is True; it must be an integer."),
    "a fraction": (room(count=1.0), "shelves[1].count is 1.0; it must be an integer."),
    "a bound": (room(count=0), "shelves[1].count is 0; it must be a number >= 1."),
    "a quoted number": (room(count="3"), "it must be an integer. It is text: write 3 without quotes."),
    "1e-3": (room(weight="1e-3"), "it must be a number. YAML takes 1e-3 for text: write 0.001."),
    "no number": (room(weight=float("nan")), "shelves[1].weight is nan; it must be a finite number."),
    "a choice": (room(kind="lo"), "shelves[1].kind is 'lo'; it must be 'low' or 'high'."),
    "no member of a union": (room(books=3), "shelves[1].books is 3; it must be text or a list."),
    "within a member of a union": (room(books=["a", 1]), "shelves[1].books[1] is 1; it must be text."),
    "a list within a list": (room(grid=[[1, "a"]]), "shelves[1].grid[0][1] is 'a'; it must be an integer."),
    "a value of a mapping": (room(labels={"title": 1}), "shelves[1].labels.title is 1; it must be text."),
    "what a description says": (room(span=[1, "a"]), "span is [1, 'a']; it must be two numbers, e.g. [0, 1]"),
    "a short list": (room(span=[1]), "shelves[1].span is [1]; it must be two numbers, e.g. [0, 1]."),
    "a rule of a validator": (room(span=[2, 1]), "shelves[1].span is [2, 1]; the lower one comes first."),
    "a validator that says all": (room() | {"carpet": 1}, "there are no carpets any more: leave it out."),
}


@pytest.mark.parametrize("case", WRONG)
def test_that_a_mistake_is_told_in_one_line(case):
    value, said = WRONG[case]
    with pytest.raises(DistillError) as refusal:
        validate(Room, value, "room.yaml")
    message = str(refusal.value)
    assert said in message and "\n" not in message, message
    assert message.startswith("room.yaml is " if case == "no mapping" else "room.yaml: "), message


def test_that_a_mistake_needs_no_place():
    with pytest.raises(DistillError, match=r"^shelves\[0\] is 3; it must be a mapping"):
        validate(Room, {"name": "x", "shelves": [3]})
    with pytest.raises(DistillError, match=r"^the value is 3; it must be a mapping"):
        validate(Room, 3)


def test_that_schemas_load_without_ray_and_torch():
    check = "import sys, rllib_distill.schema; print(*{'torch', 'ray', 'gymnasium'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
