"""Estimators of entropy and mutual information of continuous variables from samples."""
