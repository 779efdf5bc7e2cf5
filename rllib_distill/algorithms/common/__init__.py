"""What the families share: configuration, training step, learner, modules."""
