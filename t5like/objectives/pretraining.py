"""Every objective that a model can be pretrained with."""

from t5like.objectives.bart_denoising import BartDenoising
from t5like.objectives.causal_lm import CausalLM
from t5like.objectives.masked_lm import MaskedLM
from t5like.objectives.prefix_lm import PrefixLM
from t5like.objectives.span_corruption import SpanCorruption
from t5like.objectives.ul2 import UL2

AnyObjective = SpanCorruption | UL2 | PrefixLM | BartDenoising | CausalLM | MaskedLM
"""Each is an `Objective`; a config holds one of them."""
