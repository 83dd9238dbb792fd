"""Batch size and learning rate of a trainer that names them differently: scikit-learn's MLPClassifier."""

import warnings

import optuna
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import bsopt

digits = load_digits()
x, x_val, y, y_val = train_test_split(digits.data / 16, digits.target, test_size=0.3, random_state=0)


def objective(trial: optuna.Trial) -> float:
    net = MLPClassifier(
        (32,),
        solver="sgd",
        batch_size=trial.suggest_int("batch_size", 8, 512, log=True),
        learning_rate_init=trial.suggest_float("learning_rate_init", 1e-3, 1.0, log=True),
        alpha=trial.suggest_float("alpha", 1e-6, 1e-2, log=True),
        max_iter=10,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten epochs are what is compared
        return float(net.fit(x, y).score(x_val, y_val))


def main(num_trials: int = 20) -> optuna.Study:
    sampler = bsopt.ScalingSampler(optimizer="sgd", lr="learning_rate_init", seed=0)
    study = optuna.create_study(study_name="mlp", direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=num_trials)
    print(bsopt.recommend(study).sentence)  # it finds learning_rate_init in the study's notes
    print(f"report: {bsopt.write_report(study)}")
    return study


if __name__ == "__main__":
    main()
