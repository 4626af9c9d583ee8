"""Chains of transforms, and the updates of a compiled step that they make."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import grad
from pytensor.graph.basic import Variable

from dlmie.optim.rules import RULES, Moment, Rule, Transform, adam
from dlmie.optim.schedules import Plateau, Schedule, as_schedule, build, require
from dlmie.optim.transforms import TRANSFORMS, Ema, WeightDecay, global_norm, scale_where

ROOT = "/optimizer"


@dataclass(frozen=True)
class Chain:
    """One rule, with transforms of gradients before it and of steps after it; see :func:`chain`."""

    transforms: tuple[Transform, ...]

    def __post_init__(self) -> None:
        names = [t.name for t in self.transforms]
        rules = [i for i, t in enumerate(self.transforms) if isinstance(t, Rule)]
        known = ", ".join(rule.name for rule in RULES)
        require(len(rules) == 1, f"a chain needs one rule ({known}), not {len(rules)}: {names}")
        for i, transform in enumerate(self.transforms):
            place, last = transform.place, i == len(self.transforms) - 1
            rule = names[rules[0]]
            require(
                place != "before" or i < rules[0], f"{names[i]} must stand before {rule}: {names}"
            )
            require(
                place != "after" or i > rules[0], f"{names[i]} must stand after {rule}: {names}"
            )
            require(place != "last" or last, f"{names[i]} must stand last: {names}")

    @property
    def schedule(self) -> Schedule:
        """The schedule of the rule's learning rate."""
        rule = next(t for t in self.transforms if isinstance(t, Rule))
        return as_schedule(rule.learning_rate)

    def updates(self, loss: Variable, params: Sequence[Any], *, name: str = "") -> Updates:
        """What one step changes, to hand to ``dlmie.function(..., updates=...)``.

        Parameters
        ----------
        loss : scalar variable
            What is minimized.
        params : sequence of shared variables
            Floating, with different names, such as ``/decoder/lstm/W``; one without gets its
            ``auto_name``. A checkpoint needs names that are the same in the next process.
        name : str
            Tells the states of several optimizers apart: "generator".

        Returns
        -------
        Updates
            Pairs (shared variable, new value) of the parameters and of the optimizer's own state.

        Raises
        ------
        OptimizerError
            Two parameters of one name, or some that the loss does not depend on.
        """
        return self.updates_from(gradients_of(loss, params), params, name=name)

    def updates_from(
        self, gradients: Sequence[Any], params: Sequence[Any], *, name: str = ""
    ) -> Updates:
        """The same from gradients that the caller has, one for each parameter."""
        root = f"{ROOT}/{name}" if name else ROOT
        params = list(params)
        _check_names(params)
        given = [_fit(g, p.type) for g, p in zip(gradients, params, strict=True)]
        dtype = str(np.result_type(*(p.type.dtype for p in params)))
        count = pytensor.shared(np.asarray(0, "int64"), name=f"{root}/step")
        state: dict[str, Any] = {f"{root}/step": count}
        moment = Moment(count, self._learning_rate(count, dtype, state, root))

        flow, pairs = list(given), []
        for prefix, transform in self._named_transforms(root):
            own = transform.init(params)
            for key, variable in own.items():
                variable.name = f"{prefix}/{key}"
                state[variable.name] = variable
            flow, changes = transform.update(flow, params, own, moment)
            pairs += [(variable, _fit(new, variable.type)) for variable, new in changes]
        moves = [(p, _fit(p + step, p.type)) for p, step in zip(params, flow, strict=True)]
        return Updates(
            pairs=[*moves, *pairs, (count, count + 1)],
            state=state,
            gradients={p.name: g for p, g in zip(params, given, strict=True)},
            learning_rate=moment.learning_rate,
            schedule=self.schedule,
            parameters={p.name: p for p in params},
            root=root,
        )

    def with_factor(self, where: str | Sequence[str], factor: float) -> Chain:
        """The same optimizer with another learning rate for some parameters: an encoder's.

        Adds a :class:`~dlmie.optim.scale_where` where it belongs, before a closing ``ema``.
        """
        end = len(self.transforms) - (self.transforms[-1].place == "last")
        middle = (scale_where(where, factor),)
        return Chain((*self.transforms[:end], *middle, *self.transforms[end:]))

    def _learning_rate(self, count: Any, dtype: str, state: dict[str, Any], root: str) -> Variable:
        """Peak, times what the schedule leaves of it, times what a plateau does; adds to state."""
        schedule, name = self.schedule, f"{root}/learning_rate"
        state[name] = pytensor.shared(np.asarray(schedule.peak, dtype), name=name)
        rate = state[name] * schedule.share(count, dtype, pt)
        if isinstance(schedule, Plateau):
            for key, value in schedule.start(dtype).items():
                name = f"{root}/plateau/{key}"
                state[name] = pytensor.shared(value, name=name)
            rate = rate * state[f"{root}/plateau/factor"]
        return rate

    def _named_transforms(self, root: str) -> Iterator[tuple[str, Transform]]:
        """``/optimiser/NAME``, with a number where a transform comes a second time."""
        seen: dict[str, int] = {}
        for transform in self.transforms:
            seen[transform.name] = number = seen.get(transform.name, 0) + 1
            yield f"{root}/{transform.name}" + (f"_{number}" if number > 1 else ""), transform

    def to_json(self) -> list[dict[str, Any]]:
        """A list of plain dicts, for ``config.json``; :func:`from_json` reads it back."""
        return [transform.to_json() for transform in self.transforms]


def gradients_of(loss: Variable, params: Sequence[Any]) -> list[Variable]:
    """The gradient of a loss with respect to each of some shared variables.

    Raises
    ------
    OptimizerError
        As of :meth:`Chain.updates`.
    """
    params = list(params)
    _check_names(params)
    gradients = grad(loss, params, disconnected_inputs="ignore", return_disconnected="none")
    lost = [p.name for p, g in zip(params, gradients, strict=True) if g is None]
    require(not lost, f"the loss does not depend on {', '.join(lost)}: do not train them")
    found: list[Variable] = gradients
    return found


@dataclass
class Updates:
    """What one step changes: iterate over it for pairs (shared variable, new value).

    Attributes
    ----------
    pairs : list
        Of the parameters, then of the optimizer's state.
    state : dict
        The optimizer's shared variables by name: ``/optimiser/step``,
        ``/optimiser/learning_rate``, ``/optimiser/adam/m/decoder/lstm/W``...  A checkpoint of these
        and of the parameters continues bit for bit.
    gradients : dict
        Symbolic gradients by parameter name, before any transform.
    learning_rate : scalar variable
        Of this step, symbolic: an output for a compiled step that reports it.
    """

    pairs: list[tuple[Any, Variable]]
    state: dict[str, Any]
    gradients: dict[str, Variable]
    learning_rate: Variable
    schedule: Schedule
    parameters: dict[str, Any]
    root: str = ROOT

    def __iter__(self) -> Iterator[tuple[Any, Variable]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def gradient_norm(self) -> Variable:
        """Euclidean length of all gradients together, before clipping; symbolic."""
        return global_norm(list(self.gradients.values()))

    def current_learning_rate(self) -> float:
        """The learning rate of the next step."""
        step = int(self.state[f"{self.root}/step"].get_value())
        rate = float(self.state[f"{self.root}/learning_rate"].get_value())
        if isinstance(self.schedule, Plateau):
            rate *= float(self.state[f"{self.root}/plateau/factor"].get_value())
        return rate * float(self.schedule.share(np.asarray(step, np.int64), "float64", np))

    def set_learning_rate(self, value: float) -> None:
        """Set the schedule's peak, from the next step on; the cuts of a plateau are forgotten."""
        require(0 <= value < float("inf"), f"a learning rate is a number ≥ 0, not {value!r}")
        peak = self.state[f"{self.root}/learning_rate"]
        peak.set_value(np.asarray(value, peak.type.dtype))
        if isinstance(self.schedule, Plateau):
            for key, first in self.schedule.start(peak.type.dtype).items():
                if key != "best":
                    self.state[f"{self.root}/plateau/{key}"].set_value(first)

    def report(self, score: float) -> bool:
        """Tell a plateau schedule of a score; True if it cut the learning rate.

        Other schedules take no notice.
        """
        if not isinstance(self.schedule, Plateau):
            return False
        kept = {
            key: self.state[f"{self.root}/plateau/{key}"] for key in ("factor", "best", "waited")
        }
        return self.schedule.report(score, kept)

    @property
    def averages(self) -> dict[str, Any]:
        """Shared variables with the averaged parameters, by parameter name; empty without ema."""
        prefix = f"{self.root}/{Ema.name}/average"
        return {
            name: self.state[prefix + name]
            for name in self.parameters
            if prefix + name in self.state
        }

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages in the parameters' place, to evaluate or save; afterwards put them back.

        Without ema in the chain nothing changes.
        """
        trained = {name: self.parameters[name].get_value(borrow=True) for name in self.averages}
        try:
            for name, average in self.averages.items():
                self.parameters[name].set_value(average.get_value())
            yield
        finally:
            for name, value in trained.items():
                self.parameters[name].set_value(value, borrow=True)


def chain(*links: Transform | Chain) -> Chain:
    """An optimizer from transforms, in the order in which a gradient passes through them.

    Exactly one link is a rule (``adam``, ``sgd``, ...); chains among the links are unrolled.

    Examples
    --------
    >>> from dlmie import optim
    >>> optimizer = optim.chain(optim.clip_norm(5.0), optim.adam(optim.cosine(4e-4, 20_000)))
    >>> [link["transform"] for link in optimizer.to_json()]
    ['clip_norm', 'adam']
    """
    flat: list[Transform] = []
    for link in links:
        valid = isinstance(link, Chain | Transform)
        require(valid, f"{link!r} is not a transform: write optim.adam(4e-4), with parentheses")
        flat += link.transforms if isinstance(link, Chain) else [link]
    return Chain(tuple(flat))


def adamw(
    learning_rate: float | Schedule = 1e-3,
    *,
    weight_decay: float = 1e-2,
    where: str | Sequence[str] | None = None,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Chain:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    ``where`` names the parameters that decay; see :class:`~dlmie.optim.weight_decay`.
    """
    return chain(
        adam(learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon),
        WeightDecay(weight_decay, decoupled=True, where=where),
    )


def from_json(spec: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> Chain:
    """The optimizer that ``to_json`` described: one dict per transform.

    Raises
    ------
    OptimizerError
        An unknown transform, schedule or option, with the nearest known name.
    """
    table = {t.name: t for t in (*TRANSFORMS, *RULES)}
    links = [spec] if isinstance(spec, Mapping) else spec
    return chain(*(build(link, "transform", table) for link in links))


def _check_names(params: list[Any]) -> None:
    require(bool(params), "there is no parameter to train")
    for p in params:
        shared = hasattr(p, "get_value")
        require(shared, f"parameter {p} is no shared variable: only such can be trained")
        if p.name is None:
            p.name = p.auto_name
        real = p.type.dtype in ("float32", "float64")
        require(real, f"{p.name} is {p.type.dtype}: only float32 and float64 can be trained")
    names = [p.name for p in params]
    double = sorted({name for name in names if names.count(name) > 1})
    require(not double, f"two parameters are named {', '.join(double)}")


def _fit(variable: Any, kind: Any) -> Any:
    """The variable as exactly the type of what it updates, static shape included."""
    variable = pt.as_tensor_variable(variable)
    if variable.type.dtype != kind.dtype:
        variable = variable.astype(kind.dtype)
    return kind.filter_variable(variable, allow_convert=True)
