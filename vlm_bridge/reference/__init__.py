"""The reference models: their recipes and shipped parts, built into standard model folders."""
