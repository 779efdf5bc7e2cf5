"""The losses once more: slow, in Python's own float64 numbers, one sample at a time, without torch.

Each function takes one row and returns the loss and its derivatives by the student's outputs.
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
