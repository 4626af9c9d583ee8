"""A generator ``a z + b`` and a discriminator that is logistic in x and x²."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie import optim
from dlmie.files import containers
from dlmie.graph.network import Parameter, parameter
from dlmie.layers.noise import Noise
from dlmie.training.config import DataSource, RunConfig, TrainingOptions
from dlmie.training.loop import Record
from dlmie.training.metric import LOSS, Metric
from dlmie.training.objective import Loss, Objective
from dlmie.training.step import TrainingStep, Update
from dlmie.training.task import Session, Task
from dlmie.typing import JsonObject


class Points:
    """Numbers in a ``.npy`` file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.values: np.ndarray = np.load(self.path)  # (examples,) float32
        self.hash = hashlib.sha256(self.path.read_bytes()).hexdigest()

    def __contains__(self, split: object) -> bool:
        return split in ("train", "dev")


class PointBatches:
    """The batches of an epoch, in an order that its number decides."""

    def __init__(self, data: Points, options: TrainingOptions, epoch: int, start: int) -> None:
        order = np.random.default_rng([options.seed, epoch]).permutation(len(data.values))
        self.parts = np.split(data.values[order], range(options.batch, len(order), options.batch))
        self.start = start

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts[self.start :]:
            yield {"x": part}


class Pair:
    """The model: two networks that play against each other."""

    task = "toy"
    kind = "toy-gan"

    def __init__(self) -> None:
        self.generator = [
            parameter("/generator/a", np.ones(1, "float32")),
            parameter("/generator/b", np.zeros(1, "float32")),
        ]
        self.discriminator = [parameter("/discriminator/w", np.zeros(3, "float32"))]

    def generate(self, z: Variable) -> Variable:
        return self.generator[0] * z + self.generator[1]

    def logits(self, x: Variable) -> Variable:
        (w,) = self.discriminator
        return w[0] + w[1] * x + w[2] * x**2


class Play(Objective):
    """The loss of one side of the game (Goodfellow et al. 2014, the non-saturating form)."""

    def __init__(self, pair: Pair, side: str) -> None:
        self.pair, self.side, self.name = pair, side, side
        self.x = pt.fvector("x")

    @property
    def inputs(self) -> Mapping[str, Variable]:
        return {"x": self.x}

    def trained(self, loss: Loss) -> list[Parameter]:
        return self.pair.generator if self.side == "generator" else self.pair.discriminator

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        real, fake = batch["x"], self.pair.generate(noise.uniform_like(batch["x"]) * 2 - 1)
        examples = pt.cast(real.shape[0], "float32")
        if self.side == "generator":
            # Its input is read for the number of examples alone.
            return Loss(total=pt.softplus(-self.pair.logits(fake)).sum(), weight=examples)
        total = pt.softplus(-self.pair.logits(real)) + pt.softplus(self.pair.logits(fake))
        right = pt.cast(self.pair.logits(real) > 0, "float32").sum()
        return Loss(total=total.sum(), weight=examples, metrics={"right": right})


class PairStep(TrainingStep):
    task: ClassVar[str] = "toy"

    def __init__(self, pair: Pair, optimizers: Mapping[str, optim.Chain], seed: int) -> None:
        self.pair, self.optimizers = pair, optimizers
        updates = [
            Update(Play(pair, side), optimizers[side], name=side)
            for side in ("discriminator", "generator")
        ]
        super().__init__(updates, seed=seed)


class ToyTask(Task[Points, PairStep]):
    name: ClassVar[str] = "toy"
    options: ClassVar[type[TrainingOptions]] = TrainingOptions
    metrics: ClassVar[tuple[Metric, ...]] = (LOSS, Metric("distance", higher_is_better=False))

    def compile(self, model: Any, optimizer: Any = None, *, seed: int = 0, **options: Any) -> Any:
        chains = {
            "discriminator": optim.chain(optim.clip_norm(5.0), optim.adam(0.05)),
            "generator": optim.chain(optim.adam(optim.cosine(0.05, 200)), optim.ema(0.9)),
        }
        return PairStep(model, optimizer or chains, seed)

    def open(self, path: str | Path) -> Points:
        return Points(path)

    def configure(
        self, step: PairStep, data: Points, meta: JsonObject, *, progress: bool, **options: Any
    ) -> tuple[RunConfig, Session]:
        chosen = TrainingOptions.of(options)
        self.check(chosen, data)
        config = RunConfig(
            task=self.name,
            model={"kind": step.pair.kind},
            objective={"kind": "gan", "seed": step.seed},
            optimizer={side: chain.to_json() for side, chain in step.optimizers.items()},
            data=DataSource(str(data.path), data.hash),
            training=chosen,
            inputs={},
            meta=meta,
        )
        return config, self.session(config, step, data, progress=progress)

    def build(self, config: RunConfig, data: Points) -> PairStep:
        chains = {side: optim.from_json(chain) for side, chain in config.optimizer.items()}
        return PairStep(Pair(), chains, config.objective["seed"])

    def session(
        self, config: RunConfig, step: PairStep, data: Points, *, progress: bool
    ) -> Session:
        def measure() -> dict[str, float]:
            with step.averaged():
                mean = float(step.pair.generator[1].get_value()[0])
            return {"distance": abs(mean - float(data.values.mean()))}

        def save_best(path: Path, record: Record) -> None:
            arrays = {str(p.name): p.get_value() for p in step.pair.generator}
            containers.save(path, arrays, {"kind": step.pair.kind})

        return Session(
            batches=lambda epoch, start: PointBatches(data, config.training, epoch, start),
            measure=measure,
            save_best=save_best,
        )


TASK = ToyTask()
