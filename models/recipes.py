"""Named recipes: everything that decides a training run but the data and the seed.

``dlmie train DATA --recipe NAME --to RUN`` follows one; every option given overrides it.  The
optimizer is written as the options of ``dlmie train`` are; a number with "epochs" behind it is
turned into steps.
"""

from __future__ import annotations

import copy

from dlmie.errors import DlmieError
from dlmie.text import suggest
from dlmie.typing import JsonObject

RECIPES: dict[str, JsonObject] = {
    "show-tell-flickr8k": {
        "about": "Show and Tell on Flickr8k photographs with ImageNet features.",
        "model": "show-tell",
        "config": {"embedding": 512, "hidden": 512, "dropout": 0.5},
        "encoder": {"name": "efficientnet-lite0", "layer": "head", "size": 224},
        "optimizer": {
            "optimizer": "adam", "lr": 1e-3, "schedule": "cosine", "warmup": "0.5 epochs",
            "clip_norm": 5.0, "ema": 0.999,
        },
        "objective": {"label_smoothing": 0.1},
        "training": {
            "epochs": 12, "batch": 64, "monitor": "cider_d", "flip": True, "decoding": {"beam": 3},
        },
    },
    "show-tell-flickr8k-distilled": {
        "about": "Such a captioner (--from) learns what others that attend (--teacher) say.",
        "model": "show-tell",
        "step": "distillation",
        "config": {"dropout": 0.4},
        "encoder": {"name": "efficientnet-lite0", "layer": "head", "size": 224},
        "optimizer": {
            "optimizer": "adam", "lr": 8e-4, "schedule": "cosine", "warmup": "50",
            "clip_norm": 5.0, "ema": 0.998,
        },
        "objective": {"teacher_share": 0.8},
        "training": {
            "epochs": 6, "batch": 64, "monitor": "cider_d", "flip": True, "decoding": {"beam": 3},
        },
    },
    "show-tell-scenes": {
        "about": "Show and Tell on the embedded scenes: two minutes.",
        "model": "show-tell",
        "config": {"embedding": 128, "hidden": 256, "dropout": 0.2},
        "encoder": {"name": "efficientnet-lite0", "layer": "block10", "size": 64},
        "optimizer": {
            "optimizer": "adam", "lr": 2e-3, "schedule": "cosine", "warmup": "0.5 epochs",
            "clip_norm": 5.0,
        },
        "objective": {},
        "training": {"epochs": 12, "batch": 64, "monitor": "bleu_4", "decoding": {"beam": 3}},
    },
    "show-attend-tell-flickr8k": {
        "about": "Show, Attend and Tell (soft) on Flickr8k photographs.",
        "model": "show-attend-tell",
        "config": {"embedding": 256, "hidden": 512, "attention": 256, "dropout": 0.5},
        "encoder": {"name": "efficientnet-lite0", "layer": "head", "size": 224},
        "optimizer": {
            "optimizer": "adam", "lr": 8e-4, "schedule": "cosine", "warmup": "300",
            "clip_norm": 5.0, "ema": 0.999,
        },
        "objective": {"alpha_penalty": 0.1, "label_smoothing": 0.1},
        "training": {
            "epochs": 9, "batch": 64, "monitor": "cider_d", "flip": True, "decoding": {"beam": 3},
        },
    },
    "show-attend-tell-flickr8k-distilled": {
        "about": "What several such captioners (--teacher) say together, learned by one (--from).",
        "model": "show-attend-tell",
        "step": "distillation",
        "config": {"dropout": 0.4},
        "encoder": {"name": "efficientnet-lite0", "layer": "head", "size": 224},
        "optimizer": {
            "optimizer": "adam", "lr": 5e-4, "schedule": "cosine", "warmup": "100",
            "clip_norm": 5.0, "ema": 0.998,
        },
        "objective": {"alpha_penalty": 0.1, "teacher_share": 0.8},
        "training": {
            "epochs": 4, "batch": 64, "monitor": "cider_d", "flip": True, "decoding": {"beam": 3},
        },
    },
    "show-attend-tell-flickr8k-rewarded": {
        "about": "A trained captioner (--from) learns from the CIDEr-D of what it says: one epoch.",
        "model": "show-attend-tell",
        "step": "self-critical",
        "config": {"dropout": 0.3},
        "encoder": {"name": "efficientnet-lite0", "layer": "head", "size": 224},
        "optimizer": {"optimizer": "adam", "lr": 3e-5, "clip_norm": 5.0, "ema": 0.98},
        "objective": {},
        "training": {
            "epochs": 1, "batch": 64, "monitor": "cider_d", "captions_per_image": 1, "flip": True,
            "decoding": {"beam": 3},
        },
    },
    "show-attend-tell-flickr8k-finetuned": {
        # What lies before block15 sees every image once, in six views.
        "about": "A trained captioner (--from, --teacher) and the end of its encoder, together.",
        "model": "show-attend-tell",
        "step": "distillation",
        "config": {"dropout": 0.4},
        "encoder": {"name": "efficientnet-lite0", "layer": "head", "size": 224},
        "optimizer": {
            "optimizer": "adam", "lr": 3e-4, "schedule": "cosine", "warmup": "100",
            "clip_norm": 5.0, "ema": 0.998,
        },
        "objective": {
            "alpha_penalty": 0.1, "label_smoothing": 0.1, "teacher_share": 0.6,
            "finetune": "block15/depthwise", "from_layer": "block14", "encoder_lr": 0.3,
        },
        "training": {
            "epochs": 3, "batch": 64, "monitor": "cider_d", "flip": True, "crops": 4,
            "decoding": {"beam": 5},
        },
    },
    "show-attend-tell-photographs": {
        # The grid before the last 1×1 convolution is twice as fine as the network's own; what the
        # whole image shows comes from that convolution. Few of the words have boxes (--boxes), so
        # those weigh much.
        "about": "Show, Attend and Tell that looks at what it names: photographs, some with boxes.",
        "model": "show-attend-tell",
        "config": {
            "embedding": 256, "hidden": 512, "attention": 256, "dropout": 0.5,
            "global_context": 256, "global_head": 1280,
        },
        "encoder": {
            "name": "efficientnet-lite0", "layer": "block15", "size": 288, "output_stride": 16,
        },
        "optimizer": {
            "optimizer": "adam", "lr": 8e-4, "schedule": "cosine", "warmup": "300",
            "clip_norm": 5.0, "ema": 0.998,
        },
        "objective": {"label_smoothing": 0.1, "attention_supervision": 12.0},
        "training": {
            "epochs": 7, "batch": 64, "monitor": "cider_d", "flip": True, "decoding": {"beam": 3},
        },
    },
    "show-attend-tell-photographs-narrowed": {
        # The dev loss, not the score, chooses the epoch: attention narrows until the end.
        "about": "Such a captioner (--from) on photographs with boxes: attention narrows.",
        "model": "show-attend-tell",
        "config": {"dropout": 0.5},
        "encoder": {"name": "efficientnet-lite0", "layer": "block15", "output_stride": 16},
        "optimizer": {
            "optimizer": "adam", "lr": 3e-4, "schedule": "cosine", "warmup": "30",
            "clip_norm": 5.0, "ema": 0.98,
        },
        "objective": {
            "label_smoothing": 0.1, "attention_supervision": 12.0, "attention_entropy": 0.05,
        },
        "training": {
            "epochs": 4, "batch": 64, "monitor": "dev_loss", "flip": True, "decoding": {"beam": 3},
        },
    },
    "show-attend-tell-scenes": {
        # Enlarged scenes give a grid fine enough to point at a thing; early layers tell colors and
        # textures, late ones shapes; a layer between (project) makes more captions true. Without
        # the penalty attention need not visit the background.
        "about": "Show, Attend and Tell (soft) on the embedded scenes.",
        "model": "show-attend-tell",
        "config": {
            "embedding": 128, "hidden": 256, "attention": 128, "dropout": 0.1, "score": "dot",
            "gate": "none", "query": "current", "standardize": True, "position": 3,
            "project": 128,
        },
        "encoder": {"name": "efficientnet-lite0", "layer": "block4+block7+block10", "size": 128},
        "optimizer": {
            "optimizer": "adam", "lr": 2e-3, "schedule": "cosine", "warmup": "50",
            "clip_norm": 5.0, "ema": 0.99,
        },
        "objective": {"attention_supervision": 1.0, "attention_each": True},
        "training": {"epochs": 3, "batch": 32, "monitor": "dev_loss", "decoding": {"beam": 3}},
    },
    "softmax-cifar10": {
        "about": "Softmax regression on CIFAR-10's pixels: less than a minute.",
        "model": "softmax",
        "config": {"regularization": 0.03},
        "normalization": "per-channel",
        "optimizer": {"optimizer": "adam", "lr": 1e-3, "schedule": "cosine", "clip_norm": 5.0},
        "objective": {},
        "training": {"epochs": 8, "batch": 128, "monitor": "accuracy"},
    },
    "linear-svm-cifar10": {
        "about": "The multiclass support vector machine on CIFAR-10's pixels: less than a minute.",
        "model": "linear-svm",
        "config": {"regularization": 0.1},
        "normalization": "per-channel",
        "optimizer": {"optimizer": "adam", "lr": 1e-3, "schedule": "cosine", "clip_norm": 5.0},
        "objective": {},
        "training": {"epochs": 8, "batch": 128, "monitor": "accuracy"},
    },
    "gan": {
        "about": "The course's first adversarial networks, of dense layers: MNIST.",
        "model": "gan",
        "config": {},
        "optimizer": {"optimizer": "adam:beta1=0.5", "lr": 1e-3, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 10, "batch": 128},
    },
    "ls-gan": {
        "about": "The same networks with least squares: MNIST.",
        "model": "ls-gan",
        "config": {},
        "optimizer": {"optimizer": "adam:beta1=0.5", "lr": 1e-3, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 10, "batch": 128},
    },
    "dc-gan": {
        "about": "The course's adversarial networks of convolutions: MNIST.",
        "model": "dc-gan",
        "config": {},
        "optimizer": {"optimizer": "adam:beta1=0.5", "lr": 1e-3, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 5, "batch": 128},
    },
    "wgan-gp": {
        "about": "The same generator, and a critic with a gradient penalty: MNIST.",
        "model": "wgan-gp",
        "config": {},
        "optimizer": {"optimizer": "adam:beta1=0.5", "lr": 1e-3, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 5, "batch": 128},
    },
    "q-table": {
        "about": "The course's Q-table: FrozenLake-v1 in seconds.",
        "model": "q-table",
        "config": {},
        "optimizer": {"optimizer": "sgd", "lr": 0.1, "clip_norm": 0.0},
        "objective": {"gamma": 0.99, "epsilon": 1.0, "epsilon_last": 0.1, "epsilon_steps": 50_000},
        "training": {"epochs": 20, "episodes": 500, "test_episodes": 1000},
    },
    "q-network": {
        "about": "The course's one-layer Q-network: FrozenLake-v1 in seconds.",
        "model": "q-network",
        "config": {},
        "optimizer": {"optimizer": "sgd", "lr": 0.1, "clip_norm": 0.0},
        "objective": {"gamma": 0.99, "epsilon": 1.0, "epsilon_last": 0.1, "epsilon_steps": 50_000},
        "training": {"epochs": 20, "episodes": 500, "test_episodes": 1000},
    },
    "dqn": {
        "about": "The course's deep Q-network, plain: WorldNavigate-v0.",
        "model": "dqn",
        "config": {},
        "optimizer": {"optimizer": "adam", "lr": 1e-4, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 50, "episodes": 100, "test_episodes": 20, "checkpoint_every": 50},
    },
    "dueling-dqn": {
        "about": "The same, dueling and double: what the course trains on WorldNavigate-v0.",
        "model": "dqn",
        "config": {"dueling": True},
        "optimizer": {"optimizer": "adam", "lr": 1e-4, "clip_norm": 0.0},
        "objective": {"double": True},
        "training": {"epochs": 50, "episodes": 100, "test_episodes": 20, "checkpoint_every": 50},
    },
    "policy": {
        "about": "REINFORCE with ten hidden units: CartPole-v1 in a minute or two.",
        "model": "policy",
        "config": {"hidden": 10},
        "optimizer": {"optimizer": "adam", "lr": 1e-2, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 20, "episodes": 100, "batch": 5, "test_episodes": 100},
    },
    "world-model": {
        "about": "A policy that learns in what a model imagines: CartPole-v0 or v1.",
        "model": "world-model",
        "config": {"hidden": 8},
        "optimizer": {"optimizer": "adam", "lr": 1e-2, "clip_norm": 0.0},
        "objective": {},
        "training": {"epochs": 30, "episodes": 99, "batch": 3, "test_episodes": 50},
    },
    "two-layer-cifar10": {
        "about": "One hidden layer on CIFAR-10's pixels.",
        "model": "two-layer",
        "config": {"hidden": 500, "regularization": 1e-3},
        "normalization": "per-channel",
        "optimizer": {"optimizer": "adam", "lr": 5e-4, "schedule": "cosine", "clip_norm": 5.0},
        "objective": {},
        "training": {"epochs": 15, "batch": 128, "monitor": "accuracy", "flip": True},
    },
    "two-layer-features-cifar10": {
        "about": "One hidden layer on gradients and hues of CIFAR-10's images.",
        "model": "two-layer",
        "config": {"hidden": 500, "regularization": 2e-3},
        "normalization": "hog",
        "optimizer": {"optimizer": "adam", "lr": 5e-4, "schedule": "cosine", "clip_norm": 5.0},
        "objective": {},
        "training": {"epochs": 15, "batch": 128, "monitor": "accuracy"},
    },
    "fully-connected-cifar10": {
        "about": "Three hidden layers with batch norm and dropout on CIFAR-10's pixels.",
        "model": "fully-connected",
        "config": {"sizes": [512, 256, 128], "norm": "batch", "keep": 0.8},
        "normalization": "per-channel",
        "optimizer": {"optimizer": "adam", "lr": 1e-3, "schedule": "cosine", "clip_norm": 5.0},
        "objective": {},
        "training": {"epochs": 20, "batch": 128, "monitor": "accuracy", "flip": True, "shift": 2},
    },
    "convnet-cifar10": {
        "about": "Six convolutions with batch norm on CIFAR-10.",
        "model": "convnet",
        "config": {"stages": [32, 64, 128], "norm": "batch", "keep": 0.8, "regularization": 1e-4},
        "normalization": "per-channel",
        "optimizer": {
            "optimizer": "adam", "lr": 2e-3, "schedule": "cosine", "warmup": "1 epochs",
            "clip_norm": 5.0, "ema": 0.998,
        },
        "objective": {},
        "training": {"epochs": 40, "batch": 128, "monitor": "accuracy", "flip": True, "shift": 4},
    },
    "tiny-imagenet": {
        # One mean color, not a mean image: so the encoder tiny-imagenet takes the weights.
        "about": "The network of the course's pictures on Tiny-ImageNet's photographs.",
        "model": "tiny-imagenet-cnn",
        "config": {"keep": 0.5, "regularization": 2e-5},
        "normalization": "per-channel",
        "optimizer": {
            "optimizer": "adam", "lr": 1e-3, "schedule": "cosine", "warmup": "1 epochs",
            "clip_norm": 5.0, "ema": 0.998,
        },
        "objective": {"label_smoothing": 0.1},
        "training": {"epochs": 40, "batch": 64, "monitor": "accuracy", "flip": True, "shift": 6},
    },
    "captioning-project": {
        # An image lends each epoch one of its captions, drawn anew.
        "about": "The HSE course's captioning project; say where the encoder's weights are.",
        "model": "bottleneck-lstm",
        "config": {"image_bottleneck": 120, "embedding": 100, "hidden": 300},
        "encoder": {"name": "inception-v3", "layer": "pool", "size": 299},
        "optimizer": {"optimizer": "adam", "lr": 1e-3, "clip_norm": 0.0},
        "objective": {},
        "training": {
            "epochs": 12, "batch": 64, "monitor": "dev_loss", "captions_per_image": 1,
            "keep_epochs": True, "decoding": {"beam": 1},
        },
    },
}  # fmt: skip


def recipe_of(model: str | None) -> str | None:
    """The recipe that a model follows unless another is named: that of its own name, if any."""
    return model if model in RECIPES else None


def recipe(name: str) -> JsonObject:
    """A recipe by name, free to be changed.

    Raises
    ------
    DlmieError
        No such recipe; names the closest one.
    """
    if name not in RECIPES:
        raise DlmieError(f"unknown recipe {name!r}{suggest(name, RECIPES)}")
    return copy.deepcopy(RECIPES[name])
