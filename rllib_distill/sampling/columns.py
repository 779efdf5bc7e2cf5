"""Names of columns, beside RLlib's own: what experts say, whose rows they are, how they were acted."""

EXPERT_OUTPUTS = "expert_outputs"
"""Q-values or logits of the experts: a label."""

EXPERT_FEATURES = "expert_features"
"""Last hidden layers of the experts: a label."""

LEGAL_ACTIONS = "legal_actions"
"""`(N, A)` bool, or None if all are legal."""

TASKS = "tasks"
"""Names of tasks; the rows are as many equal chunks, task by task."""

BEHAVIOUR_LOG_PROBS = "behaviour_log_probs"
"""log mu(a|s) of the action that was taken, under whoever drew it: a label, `(T, B)` in a fragment."""
