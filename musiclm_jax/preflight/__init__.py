"""What a training step will need of a machine that need not be there."""
