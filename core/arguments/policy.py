"""All policies by the field of the request that they govern."""

from collections.abc import Mapping

from core.arguments.adapter import PEFT, QUANTIZATION
from core.arguments.rules import Kind, Policy
from core.arguments.training import TRAINING

POLICIES: Mapping[Kind, Policy] = {
    "training": TRAINING,
    "peft": PEFT,
    "quantization": QUANTIZATION,
}
