"""A loaded vision-language model: its parts, its prompts, its batches."""
