"""What captioners are trained for."""

from dlmie.captioning.objectives.distillation import Distillation
from dlmie.captioning.objectives.self_critical import SelfCritical
from dlmie.captioning.objectives.teacher_forcing import TeacherForcing

__all__ = ["Distillation", "SelfCritical", "TeacherForcing"]
