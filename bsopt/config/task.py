"""The block `task`: what is trained."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from bsopt.config.fields import Block


class ClassPath(Block):
    """A class to import and the arguments to build it with."""

    class_path: str = Field(
        description="module.Class, looked up in the study file's folder, the working folder, then what is installed"
    )
    init_args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"class_path": value} if isinstance(value, str) else value


class EntryConfig(Block):
    """The project's own entry point, run with its own arguments and taken over at `Trainer.fit`.

    A LightningCLI gets `--model.lr` and `--data.batch_size` (or the paths under `inject:`) by itself. Any other
    script gets what its arguments hold a placeholder for: `args: [--lr, "{lr}", --batch-size, "{batch_size}"]`;
    what they don't is set on the module and data module that it gives to `fit`, where they have such attributes. The
    plan decides how gradients are accumulated: a script that computes the steps of its schedule from the length of its
    loader divides by `"{accumulate_grad_batches}"`, takes `"{max_steps}"`, or reads
    `trainer.estimated_stepping_batches`.
    """

    script: str | None = Field(None, description="path of a Python script, relative to the study file")
    function: str | None = Field(None, description="package.module:function, called without arguments")
    args: list[str] = Field(
        default_factory=list,
        description="the command-line arguments it sees; {lr}, {batch_size}, {seed} and the paths of search.params, "
        "e.g. {model.weight_decay}, are filled in, and for a script that plans its own schedule {max_epochs}, "
        "{max_steps}, {accumulate_grad_batches}, {num_devices} and {num_nodes}; files are looked up beside the study "
        "file, then in the working folder",
    )

    @model_validator(mode="after")
    def _one(self) -> EntryConfig:
        if (self.script is None) == (self.function is None):
            raise ValueError("give either script or function")
        return self


class TaskConfig(Block):
    """What is trained: a module and its data, a factory of both, or the project's own entry point."""

    model: ClassPath | None = None
    data: ClassPath | None = None
    factory: str | None = Field(None, description="package.module:function that returns (module, data)")
    entry: EntryConfig | None = None

    @model_validator(mode="after")
    def _one(self) -> TaskConfig:
        ways = [self.model is not None, self.factory is not None, self.entry is not None]
        if sum(ways) != 1:
            raise ValueError("give exactly one of model (with data), factory or entry")
        if self.model is not None and self.data is None:
            raise ValueError("data is missing: the LightningDataModule that goes with model")
        if self.model is None and self.data is not None:
            raise ValueError("data goes with model; a factory or an entry brings its own")
        return self
