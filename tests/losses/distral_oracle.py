"""Distral once more: slow, in Python's own float64 numbers, without torch, one state or step at a time."""

from math import exp, log

from tests.losses.oracle import Row, log_softmax


def log_probabilities(logits: Row) -> Row:
    return log_softmax(logits, [True] * len(logits))


def soft_value(distilled_logits: Row, q: Row, alpha: float, beta: float) -> float:
    """(1 / beta) log sum_a pi_0(a)^alpha exp(beta q(a)), with the greatest q taken out of the sum."""
    top = max(q)
    policy = [exp(log_probability) for log_probability in log_probabilities(distilled_logits)]
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
