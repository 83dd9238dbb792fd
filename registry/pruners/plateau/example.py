"""Curves that flatten out at different heights: most of them needn't be trained to their end."""

import math

import optuna
import optunahub

EPOCHS = 50


def main() -> None:
    module = optunahub.load_module(package="pruners/plateau")

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        end, pace = 0.1 * (math.log10(lr) + 2.0) ** 2, 10.0 * lr
        for epoch in range(EPOCHS):
            loss = end + math.exp(-pace * (epoch + 1))
            trial.report(loss, epoch)
            if (value := module.conclude(trial)) is not None:
                return value
        return loss

    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(sampler=sampler, pruner=module.PlateauPruner(patience=5, decays_to_end=False))
    study.optimize(objective, n_trials=20)
    trained = sum(len(trial.intermediate_values) for trial in study.trials)
    print(f"best {study.best_value:.4f}, with {trained} of {EPOCHS * len(study.trials)} epochs")


if __name__ == "__main__":
    main()
