"""Small models of other families, trained from scratch: real classes, their own tokenizer."""
