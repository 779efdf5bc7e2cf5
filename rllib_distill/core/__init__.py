"""What the algorithms share: configs, learners, RLModules, checkpoints."""
