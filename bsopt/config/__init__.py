"""The study file: `blocks` says what it may hold, `reading` reads it."""

from bsopt.config.blocks import ExperimentConfig, RangeSpace, SearchConfig, StudyConfig
from bsopt.config.reading import LoadedConfig, json_schema, load_config, validate_config

__all__ = [
    "ExperimentConfig",
    "LoadedConfig",
    "RangeSpace",
    "SearchConfig",
    "StudyConfig",
    "json_schema",
    "load_config",
    "validate_config",
]
