"""What runs a model on this machine."""
