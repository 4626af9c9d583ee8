"""Scores of captions: corpus BLEU, ROUGE-L and CIDEr-D, each said with its protocol."""

from dlmie.captioning.metrics.cider import CiderD, cider_d
from dlmie.captioning.metrics.nltk_bleu import bleu
from dlmie.captioning.metrics.rouge import rouge_l
from dlmie.captioning.metrics.scores import NAMES, Scores, coverage, score

__all__ = ["NAMES", "CiderD", "Scores", "bleu", "cider_d", "coverage", "rouge_l", "score"]
