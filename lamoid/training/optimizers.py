"""The optimisers that a recipe may name."""

from lamoid.training.adafactor import AdafactorSpec
from lamoid.training.adamw import AdamWSpec
from lamoid.training.muon import MuonSpec
from lamoid.training.sgd import SGDSpec

OptimizerSpec = AdamWSpec | SGDSpec | AdafactorSpec | MuonSpec
