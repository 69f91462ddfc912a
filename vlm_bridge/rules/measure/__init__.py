"""Measurements that several rules share; each is made once and kept."""
