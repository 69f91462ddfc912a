"""Usable information: what a family of predictors gets out of rows about a target."""

from estimators.usable.dispatch import usable_information as usable_information

__all__ = ["usable_information"]
