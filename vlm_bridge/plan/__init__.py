"""Skip plans as plain data: modes, units, and the share of work that a plan saves."""
