"""What every training child needs, imported once by the forkserver. It imports and never computes.

A process that has run one multi-threaded operation of torch cannot be forked: its children hang.
"""

import gc

import datasets.packaged_modules.generator.generator
import peft
import torch._dynamo
import transformers.models.gemma3.modeling_gemma3
import transformers.models.gpt2.modeling_gpt2
import transformers.models.gpt_neox.modeling_gpt_neox
import transformers.models.granite.modeling_granite
import transformers.models.llama.modeling_llama
import transformers.models.mistral.modeling_mistral
import transformers.models.opt.modeling_opt
import transformers.models.phi3.modeling_phi3
import transformers.models.qwen2.modeling_qwen2
import transformers.models.qwen3.modeling_qwen3
import transformers.models.smollm3.modeling_smollm3
import trl.trainer.sft_trainer
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import worker.child.main

__all__ = ["datasets", "peft", "torch", "transformers", "trl", "worker"]

# A table of a thousand regular expressions, compiled at the first call.
get_checkpoint_conversion_mapping("llama")

# What is here now is never collected again: no child has to search it, or to copy its memory.
gc.collect()
gc.freeze()
