"""Names of a minibatch's columns, beside RLlib's own: what experts say, and whose rows they are."""

EXPERT_OUTPUTS = "expert_outputs"
"""Q-values or logits of the experts: a label."""

EXPERT_FEATURES = "expert_features"
"""Last hidden layers of the experts: a label."""

LEGAL_ACTIONS = "legal_actions"
"""`(N, A)` bool, or None if all are legal."""

TASKS = "tasks"
"""Names of tasks; the rows are as many equal chunks, task by task."""
