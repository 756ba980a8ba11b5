"""What an operator decides: configs/logic.yaml, read at the start into one frozen value."""
