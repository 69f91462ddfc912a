"""Skip plans as plain data: their modes, their units, what they save."""
