"""The study file: `schema`, with the blocks of `task` and `search`, says what it may hold, `loading` reads it."""

from bsopt.config.loading import LoadedConfig, json_schema, load_config, validate_config
from bsopt.config.schema import ExperimentConfig, StudyConfig
from bsopt.config.search import RangeSpace, SearchConfig
from bsopt.config.variants import VariantConfig

__all__ = [
    "ExperimentConfig",
    "LoadedConfig",
    "RangeSpace",
    "SearchConfig",
    "StudyConfig",
    "VariantConfig",
    "json_schema",
    "load_config",
    "validate_config",
]
