"""The policies of every argument of peft.LoraConfig and of transformers.BitsAndBytesConfig."""

from core.arguments.rules import JsonValue, Policy, denied, joined, operator, user

# Both libraries use module names as regular expressions; in these only the dot means anything.
_MODULES: dict[str, JsonValue] = {
    "minItems": 1,
    "maxItems": 64,
    "items": {"type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*$"},
}
_MODULES_IN_WORDS = 'a list of 1 to 64 plain module names like "q_proj"'

_LORA_USER = {
    "r": user(minimum=1, maximum=512),
    "lora_alpha": user(type="number", minimum=1e-3, maximum=4096),
    "lora_dropout": user(minimum=0, exclusiveMaximum=1),
    "target_modules": user(
        type=["array", "string", "null"],
        pattern="^all-linear$",
        expects=f'"all-linear" or {_MODULES_IN_WORDS}',
        **_MODULES,
    ),
    "exclude_modules": user(type=["array", "null"], expects=_MODULES_IN_WORDS, **_MODULES),
    "bias": user(enum=["none", "all", "lora_only"]),
    "use_rslora": user(),
    "use_dora": user(),
    "init_lora_weights": user(
        type=["boolean", "string"], enum=[True, False, "gaussian", "olora", "pissa_niter_16"]
    ),
    "modules_to_save": user(
        type=["array", "null"],
        minItems=1,
        maxItems=2,
        items={"type": "string", "enum": ["embed_tokens", "lm_head"]},
        expects='a list of "embed_tokens", "lm_head" or both',
    ),
    "layers_to_transform": user(
        type=["array", "integer", "null"],
        minimum=0,
        maximum=9999,
        minItems=1,
        maxItems=1000,
        items={"type": "integer", "minimum": 0, "maximum": 9999},
        expects="a layer number from 0 to 9999, or a list of up to 1000 of them",
    ),
    "ensure_weight_tying": user(),
}

_LORA_REST = joined(
    operator("every job here trains a causal language model with LoRA", "task_type peft_type"),
    operator("it is taken from the job", "base_model_name_or_path revision"),
    operator(
        "it follows from the base model and the installed library",
        "peft_version inference_mode fan_in_fan_out",
    ),
    denied(
        "it would import a module or open a file that the request names",
        "auto_mapping megatron_config megatron_core corda_config lora_ga_config",
    ),
    denied(
        "it takes regular expressions; name modules in target_modules instead",
        "rank_pattern alpha_pattern layers_pattern",
    ),
    denied("it would grow the model without a bound", "layer_replication"),
    denied(
        "this variant of LoRA is not offered",
        "eva_config loftq_config arrow_config velora_config monteclora_config kasa_config"
        " use_bdlora runtime_config target_parameters trainable_token_indices"
        " alora_invocation_tokens use_qalora qalora_group_size lora_bias",
    ),
)

PEFT = Policy(
    rules=joined(_LORA_USER, _LORA_REST),
    set_anyway={"peft_type": "LORA", "task_type": "CAUSAL_LM"},
)

QUANTIZATION = Policy(
    rules={
        "load_in_4bit": user(),
        "load_in_8bit": user(),
        "bnb_4bit_quant_type": user(enum=["nf4", "fp4"]),
        "bnb_4bit_compute_dtype": user(
            type=["string", "null"], enum=["bfloat16", "float16", "float32"]
        ),
        "bnb_4bit_use_double_quant": user(),
        "bnb_4bit_quant_storage": user(
            type=["string", "null"], enum=["uint8", "bfloat16", "float16", "float32"]
        ),
        # The library refuses a whole number here.
        "llm_int8_threshold": user(minimum=0, maximum=1000, format="float"),
        "llm_int8_skip_modules": user(
            type=["array", "null"], expects=_MODULES_IN_WORDS, **_MODULES
        ),
        **operator(
            "the service places the whole model on one device", "llm_int8_enable_fp32_cpu_offload"
        ),
        **denied(
            "it keeps the weights in 16 bit, which saves no memory", "llm_int8_has_fp16_weight"
        ),
    }
)
