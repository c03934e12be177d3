"""The policy of every argument of trl.SFTConfig, its own and the inherited ones."""

from core.arguments.rules import Policy, denied, joined, mapped, operator, user

MAX_STEPS = 10_000_000
MAX_SEED = 2**32 - 1

TEXT = "^[^\\x00-\\x1f\\x7f\\ud800-\\udfff]+$"
"""Printable: no control characters, and nothing that UTF-8 cannot encode."""

_LENGTH = {
    "per_device_train_batch_size": user(minimum=1, maximum=1024, auto=True),
    "per_device_eval_batch_size": user(minimum=1, maximum=1024),
    "gradient_accumulation_steps": user(minimum=1, maximum=4096, auto=True),
    "eval_accumulation_steps": user(minimum=1, maximum=1024),
    "num_train_epochs": user(exclusiveMinimum=0, maximum=100, auto=True),
    "max_steps": user(minimum=-1, maximum=MAX_STEPS, format="step-limit"),
}

_OPTIMIZER = {
    "learning_rate": user(exclusiveMinimum=0, maximum=1, auto=True),
    "lr_scheduler_type": user(
        enum=[
            "linear",
            "cosine",
            "cosine_with_min_lr",
            "cosine_with_restarts",
            "constant",
            "constant_with_warmup",
            "inverse_sqrt",
            "polynomial",
        ]
    ),
    "lr_scheduler_kwargs": user(
        type=["object", "null"],
        properties={
            "num_cycles": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000},
            "min_lr": {"type": "number", "minimum": 0, "maximum": 1},
            "min_lr_rate": {"type": "number", "minimum": 0, "maximum": 1},
            "lr_end": {"type": "number", "minimum": 0, "maximum": 1},
            "power": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
        },
        additionalProperties=False,
    ),
    "warmup_steps": user(minimum=0, maximum=1_000_000, format="steps"),
    "optim": user(
        enum=[
            "adamw_torch",
            "adamw_torch_fused",
            "adafactor",
            "sgd",
            # State in 8 bit, or paged to host memory; these need bitsandbytes on the worker.
            "adamw_8bit",
            "adamw_bnb_8bit",
            "paged_adamw_32bit",
            "paged_adamw_8bit",
        ]
    ),
    "weight_decay": user(minimum=0, maximum=1),
    "adam_beta1": user(minimum=0, exclusiveMaximum=1),
    "adam_beta2": user(minimum=0, exclusiveMaximum=1),
    "adam_epsilon": user(minimum=1e-12, maximum=1e-2),
    "max_grad_norm": user(minimum=0, maximum=1000),
    "label_smoothing_factor": user(minimum=0, exclusiveMaximum=1),
    "neftune_noise_alpha": user(minimum=0, maximum=100),
    "router_aux_loss_coef": user(minimum=0, maximum=1),
    "loss_type": user(enum=["nll", "dft"]),
    "completion_only_loss": user(),
    "assistant_only_loss": user(),
}

_CADENCE = {
    "logging_strategy": mapped(enum=["no", "steps", "epoch"]),
    "logging_steps": user(exclusiveMinimum=0, maximum=MAX_STEPS, format="steps"),
    "eval_strategy": user(enum=["no", "steps", "epoch"]),
    "eval_steps": user(exclusiveMinimum=0, maximum=MAX_STEPS, format="steps"),
    "eval_delay": user(minimum=0, maximum=1_000_000),
    "eval_on_start": user(),
    "save_strategy": mapped(enum=["no", "steps", "epoch", "best"]),
    "save_steps": user(exclusiveMinimum=0, maximum=MAX_STEPS, format="steps"),
    "save_total_limit": mapped(minimum=1, maximum=10_000),
    "load_best_model_at_end": mapped(),
    "metric_for_best_model": mapped(
        enum=[
            "loss",
            "eval_loss",
            "mean_token_accuracy",
            "eval_mean_token_accuracy",
            "entropy",
            "eval_entropy",
        ]
    ),
    "greater_is_better": mapped(),
}

_MEMORY = {
    "bf16": mapped(auto=True),
    "fp16": mapped(),
    "tf32": mapped(),
    "activation_checkpointing": mapped(auto=True),
    "gradient_checkpointing": mapped(auto=True),
    "activation_offloading": user(),
    "torch_empty_cache_steps": user(minimum=1, maximum=MAX_STEPS),
}

_DATA = {
    "dataset_text_field": user(maxLength=128, pattern=TEXT),
    "eos_token": user(maxLength=64, pattern=TEXT),
    "max_length": user(minimum=1, maximum=1_048_576),
    "truncation_mode": user(enum=["keep_start"]),
    "shuffle_dataset": user(),
    "packing": user(),
    "packing_strategy": user(enum=["bfd", "bfd_split", "wrapped"]),
    "padding_free": user(),
    "eval_packing": user(),
    "seed": user(minimum=0, maximum=MAX_SEED),
    "data_seed": user(minimum=0, maximum=MAX_SEED),
    "full_determinism": user(),
    "dataloader_drop_last": user(),
    "dataloader_num_workers": mapped(minimum=0, maximum=4),
    "train_sampling_strategy": user(enum=["random", "sequential", "group_by_length"]),
}

_OPERATOR = joined(
    operator(
        "the service keeps checkpoints itself; their locations come back on the job", "output_dir"
    ),
    operator("a run is named by its job; give the job a suffix instead", "run_name"),
    operator(
        "the service streams and keeps the metrics itself and starts no other tracker", "report_to"
    ),
    operator("the worker chooses the device", "use_cpu"),
    operator(
        "the service collects the log itself",
        "disable_tqdm log_level log_level_replica log_on_each_node",
    ),
    operator(
        "the service decides what is recorded besides logging_strategy and logging_steps",
        "logging_first_step include_num_input_tokens_seen skip_memory_metrics",
    ),
    operator(
        "a loss that is not finite is always shown, never averaged away", "logging_nan_inf_filter"
    ),
    operator(
        "a checkpoint must hold all that an interrupted job needs to go on exactly",
        "save_only_model save_on_each_node enable_jit_checkpoint",
    ),
    operator(
        "evaluation computes the loss and the token accuracy, in the precision of training",
        "prediction_loss_only eval_do_concat_batches eval_use_gather_object batch_eval_metrics"
        " bf16_full_eval fp16_full_eval",
    ),
    operator("generation caches are of no use in training", "use_cache"),
    operator(
        "a job always trains, and evaluates when eval_strategy says so",
        "do_train do_eval do_predict",
    ),
    operator(
        "the service starts the processes of a job and connects them",
        "local_rank average_tokens_across_devices ddp_find_unused_parameters ddp_bucket_cap_mb"
        " ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout",
    ),
    operator(
        "the service tunes data loading to the machine, except dataloader_num_workers",
        "dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor"
        " dataloader_in_order dataset_num_proc pad_to_multiple_of",
    ),
    operator(
        "the service prepares the columns of the data",
        "remove_unused_columns length_column_name",
    ),
    operator(
        "the service uses the non-reentrant kind, which works with every model",
        "activation_checkpointing_kwargs gradient_checkpointing_kwargs",
    ),
    operator("code that comes with a model is never run", "trust_remote_code"),
    operator(
        "the service decides how the base model is loaded; see also quantization",
        "model_init_kwargs",
    ),
)

_DENIED = joined(
    denied("a job goes on from its last verified checkpoint by itself", "resume_from_checkpoint"),
    denied(
        "the service places a job on devices itself, without configuration files",
        "fsdp fsdp_config deepspeed accelerator_config parallelism_config",
    ),
    denied(
        "an optimizer takes only the arguments that have a name of their own here",
        "optim_args optim_target_modules",
    ),
    denied(
        "nothing leaves this server during training; pull the finished model from the job",
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push"
        " hub_revision project trackio_space_id trackio_bucket_id trackio_static_space_id",
    ),
    denied(
        "it would run a compiler or other native code on the worker",
        "torch_compile torch_compile_backend torch_compile_mode use_liger_kernel"
        " liger_kernel_config",
    ),
    denied(
        "a job must go on after an interruption exactly as if there had been none",
        "ignore_data_skip restore_callback_states_from_checkpoint",
    ),
    denied(
        "it changes the effective batch; set per_device_train_batch_size to auto instead",
        "auto_find_batch_size",
    ),
    denied("it would end the training process to report", "debug"),
    denied("the training process loads its data itself", "dataloader_multiprocessing_context"),
    denied("it would change what the loss and the metrics mean", "label_names include_for_metrics"),
    denied("the template is text: give it in template, beside training", "chat_template_path"),
    denied("the service prepares the data", "dataset_kwargs"),
    denied("the base model brings its padding token", "pad_token"),
)

TRAINING = Policy(
    rules=joined(_LENGTH, _OPTIMIZER, _CADENCE, _MEMORY, _DATA, _OPERATOR, _DENIED),
    same_as={"gradient_checkpointing": "activation_checkpointing"},
    old_names={
        "evaluation_strategy": "eval_strategy",
        "group_by_length": "train_sampling_strategy",
        "max_seq_length": "max_length",
        "no_cuda": "use_cpu",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "warmup_ratio": "warmup_steps",
    },
    set_anyway={
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": None,
        "disable_tqdm": True,
        "do_train": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "logging_nan_inf_filter": False,
        "use_cpu": None,
    },
    elsewhere={
        "eval_dataset": "Give validation_file, beside training.",
        "formatting_func": "Give a template, beside training.",
        "logging_dir": "The service keeps the metrics itself.",
        "model": "Give model beside training.",
        "overwrite_output_dir": "The service keeps checkpoints itself.",
        "peft_config": "Give peft, beside training.",
        "processing_class": "The base model brings its tokenizer.",
        "quantization_config": "Give quantization, beside training.",
        "save_safetensors": "Checkpoints are always safetensors.",
        "tokenizer": "The base model brings its tokenizer.",
        "train_dataset": "Give training_file or dataset, beside training.",
    },
)
