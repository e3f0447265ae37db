"""HA2G as published: data sets, losses, training, metrics, and the authors' checkpoints."""
