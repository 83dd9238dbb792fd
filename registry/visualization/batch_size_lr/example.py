"""A study that Optuna's own sampler made, drawn and answered."""

import math

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    batch_size = trial.suggest_int("batch_size", 8, 512, log=True)
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    return (math.log2(lr) + 5.0 - 0.5 * math.log2(batch_size / 64)) ** 2 + 0.3 * abs(math.log2(batch_size / 64))


if __name__ == "__main__":
    module = optunahub.load_module(package="visualization/batch_size_lr")
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=20)
    module.plot_interaction(study).write_html("interaction.html", include_plotlyjs="cdn")
    print(module.recommend(study).sentence)
