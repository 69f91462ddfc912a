"""The reference VLM: trained here, shipped in part, built into a standard LLaVA folder."""
