"""What is to be skipped, as plain data: plans, the units they are made of, what they save."""
