"""What an operator may change while the service runs: configs/logic.yaml as one frozen value."""
