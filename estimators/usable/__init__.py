"""Usable (predictive V-) information: information that a family of predictors can extract."""

from estimators.usable.dispatch import usable_information as usable_information

__all__ = ["usable_information"]
