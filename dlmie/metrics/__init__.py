"""Scores of captions: corpus BLEU, ROUGE-L and CIDEr-D, each said with its protocol."""

from dlmie.metrics.cider import CiderD, cider_d
from dlmie.metrics.nltk_bleu import bleu
from dlmie.metrics.rouge import rouge_l
from dlmie.metrics.scores import NAMES, Scores, coverage, score

__all__ = ["NAMES", "CiderD", "Scores", "bleu", "cider_d", "coverage", "rouge_l", "score"]
