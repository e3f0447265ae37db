"""From a microphone to humanoid rotations: the running path."""
