"""Usable information: what a family of predictors gets out of rows about a target."""

from __future__ import annotations

from estimators.usable.dispatch import usable_information as usable_information
