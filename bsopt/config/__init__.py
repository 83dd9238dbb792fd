"""The study file: `schema` says what it may hold, `loading` reads it."""

from bsopt.config.loading import LoadedConfig, json_schema, load_config, validate_config
from bsopt.config.schema import ExperimentConfig, RangeSpace, SearchConfig, StudyConfig

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
