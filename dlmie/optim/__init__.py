"""Optimizers: chains of small transforms that become the updates of a compiled step.

``chain(clip_norm(5.0), adam(cosine(4e-4, 20_000)))`` reads from the gradient to the step: what
stands before the rule changes gradients, what stands after it changes steps.
"""

from dlmie.optim.chains import Chain, Updates, adamw, chain, from_json, gradients_of
from dlmie.optim.rules import (
    Rule,
    Transform,
    adadelta,
    adagrad,
    adam,
    graves_rmsprop,
    momentum,
    nesterov,
    rmsprop,
    sgd,
)
from dlmie.optim.schedules import (
    OptimizerError,
    Schedule,
    constant,
    cosine,
    exponential_decay,
    linear_warmup,
    plateau,
    step_decay,
    warm_restarts,
)
from dlmie.optim.transforms import (
    clip_norm,
    clip_value,
    ema,
    global_norm,
    scale,
    scale_where,
    weight_decay,
)

#: Its former name.
OptimiserError = OptimizerError

__all__ = [
    "Chain",
    "OptimiserError",
    "OptimizerError",
    "Rule",
    "Schedule",
    "Transform",
    "Updates",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "chain",
    "clip_norm",
    "clip_value",
    "constant",
    "cosine",
    "ema",
    "exponential_decay",
    "from_json",
    "global_norm",
    "gradients_of",
    "graves_rmsprop",
    "linear_warmup",
    "momentum",
    "nesterov",
    "plateau",
    "rmsprop",
    "scale",
    "scale_where",
    "sgd",
    "step_decay",
    "warm_restarts",
    "weight_decay",
]
