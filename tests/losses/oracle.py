"""The losses once more: slow, in Python's own float64 numbers, one sample at a time, without torch.

Each distillation loss takes one row and returns the loss and its derivatives by the student's outputs; what
belongs to Distral takes one state, or one environment's steps.
"""

from math import exp, log

Row = list[float]
LossAndGradient = tuple[float, Row]


def log_softmax(scores: Row, legal: list[bool]) -> Row:
    """Log-probabilities over the legal actions; 0.0, to be ignored, at the others."""
    top = max(score for score, ok in zip(scores, legal, strict=True) if ok)
    log_sum = top + log(sum(exp(score - top) for score, ok in zip(scores, legal, strict=True) if ok))
    return [score - log_sum if ok else 0.0 for score, ok in zip(scores, legal, strict=True)]


def policies(expert_q: Row, logits: Row, legal: list[bool], tau: float) -> tuple[Row, Row]:
    return log_softmax([q / tau for q in expert_q], legal), log_softmax(logits, legal)


def policy_regression(expert_q: Row, logits: Row, legal: list[bool], tau: float) -> LossAndGradient:
    log_expert, log_student = policies(expert_q, logits, legal, tau)
    loss, gradient = 0.0, [0.0] * len(logits)
    for a, ok in enumerate(legal):
        if ok:
            loss -= exp(log_expert[a]) * log_student[a]
            gradient[a] = exp(log_student[a]) - exp(log_expert[a])
    return loss, gradient


def kl(expert_q: Row, logits: Row, legal: list[bool], tau: float) -> LossAndGradient:
    log_expert, log_student = policies(expert_q, logits, legal, tau)
    loss, gradient = 0.0, [0.0] * len(logits)
    for a, ok in enumerate(legal):
        if ok:
            loss += exp(log_expert[a]) * (log_expert[a] - log_student[a])
            gradient[a] = exp(log_student[a]) - exp(log_expert[a])
    return loss, gradient


def expected_cross_entropy(expert_q: Row, logits: Row, legal: list[bool], tau: float) -> LossAndGradient:
    log_expert, log_student = policies(expert_q, logits, legal, tau)
    losses = [-exp(log_student[a]) * log_expert[a] if ok else 0.0 for a, ok in enumerate(legal)]
    loss, gradient = sum(losses), [0.0] * len(logits)
    for a, ok in enumerate(legal):
        if ok:
            gradient[a] = exp(log_student[a]) * (-log_expert[a] - loss)
    return loss, gradient


def nll(expert_q: Row, logits: Row, legal: list[bool]) -> LossAndGradient:
    best = max((a for a, ok in enumerate(legal) if ok), key=lambda a: expert_q[a])
    log_student = log_softmax(logits, legal)
    gradient = [exp(log_student[a]) - (a == best) if ok else 0.0 for a, ok in enumerate(legal)]
    return -log_student[best], gradient


def squared_distance(target: Row, prediction: Row, legal: list[bool]) -> LossAndGradient:
    loss, gradient = 0.0, [0.0] * len(prediction)
    for a, ok in enumerate(legal):
        if ok:
            loss += (prediction[a] - target[a]) ** 2
            gradient[a] = 2 * (prediction[a] - target[a])
    return loss, gradient


def soft_value(distilled_logits: Row, q: Row, alpha: float, beta: float) -> float:
    """(1 / beta) log sum_a pi_0(a)^alpha exp(beta q(a)), with the greatest q taken out of the sum."""
    top = max(q)
    policy = [exp(log_probability) for log_probability in log_softmax(distilled_logits, [True] * len(q))]
    return top + log(sum(p**alpha * exp(beta * (x - top)) for p, x in zip(policy, q, strict=True))) / beta


def soft_q_target(
    t: int,
    rewards: Row,
    discounts: Row,
    next_values: Row,
    q_taken: Row,
    continues: list[bool],
    n_step: int,
) -> float:
    """Target of step t of one environment, as regularised rewards and one bootstrap at their end.

    r_t + sum_k gamma^k (r - Q + V)_{t+k} + gamma^m V_{t+m}, with k from 1 to m - 1 < n_step.
    """
    target, weight = rewards[t], discounts[t]
    value = next_values[t]  # V of the state that comes after step t
    for _ in range(n_step - 1):
        if t + 1 == len(rewards) or not continues[t]:
            break
        t += 1
        target += weight * (rewards[t] - q_taken[t] + value)
        weight *= discounts[t]
        value = next_values[t]
    return target + weight * value


def soft_value_iteration(
    rewards: list[Row],
    next_states: list[list[int]],
    terminal: int,
    distilled_logits: list[Row],
    alpha: float,
    beta: float,
    gamma: float,
) -> list[Row]:
    """Q of equations (3) and (4) in a deterministic world, by sweeps over all states and actions."""
    q = [[0.0] * len(row) for row in rewards]
    for _ in range(500):
        values = [soft_value(h, row, alpha, beta) for h, row in zip(distilled_logits, q, strict=True)]
        values[terminal] = 0.0
        q = [
            [reward + gamma * values[state] for reward, state in zip(*rows, strict=True)]
            for rows in zip(rewards, next_states, strict=True)
        ]
    return q
