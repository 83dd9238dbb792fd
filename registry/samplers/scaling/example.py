"""Batch size and learning rate of a linear regression that plain SGD trains, with nothing but NumPy."""

import numpy as np
import optuna
import optunahub

rng = np.random.default_rng(0)
inputs = rng.normal(size=(512, 8))
targets = inputs @ rng.normal(size=8) + 0.1 * rng.normal(size=512)


def objective(trial: optuna.Trial) -> float:
    batch_size = trial.suggest_int("batch_size", 4, 256, log=True)
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    weights, shuffled = np.zeros(8), np.random.default_rng(0)
    for _ in range(4):
        for batch in np.array_split(shuffled.permutation(512), 512 // batch_size):
            weights -= lr * 2.0 * inputs[batch].T @ (inputs[batch] @ weights - targets[batch]) / len(batch)
    return float(np.mean((inputs @ weights - targets) ** 2))


if __name__ == "__main__":
    module = optunahub.load_module(package="samplers/scaling")
    study = optuna.create_study(sampler=module.ScalingSampler(optimizer="sgd", seed=0))
    study.optimize(objective, n_trials=15)
    print(study.best_params)
    print(study.sampler.explain(study).message)
