"""The seven algorithms that the paper compares (Teh et al., 2017, table 1)."""

from typing import NamedTuple

from rllib_distill.algorithms.common.settings import check_choice
from rllib_distill.networks import Parameterization


class Variant(NamedTuple):
    """What is regularised, and what a task policy's logits are."""

    alpha: float
    parameterization: Parameterization


VARIANTS = {
    "a3c": Variant(0.0, "one_column"),
    "a3c_multitask": Variant(0.0, "shared"),
    "a3c_2col": Variant(0.0, "two_column"),
    "kl_1col": Variant(1.0, "one_column"),
    "kl_2col": Variant(1.0, "two_column"),
    "kl_ent_1col": Variant(0.5, "one_column"),
    "kl_ent_2col": Variant(0.5, "two_column"),
}


def variant_of(name: str) -> Variant:
    """The variant of a name; raises DistillError where there is none."""
    check_choice("variant", name, tuple(VARIANTS))
    return VARIANTS[name]


def name_of(alphas: set[float], parameterization: str) -> str:
    """The name that settings go by; alphas strictly between 0 and 1 are all one variant."""
    terms = "a3c" if alphas == {0.0} else "kl" if alphas == {1.0} else "kl_ent"
    one_column = "" if terms == "a3c" else "_1col"
    return terms + {"one_column": one_column, "two_column": "_2col", "shared": "_multitask"}[parameterization]
