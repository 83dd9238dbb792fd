"""Batch size and learning rate of a plain PyTorch loop: no Lightning, no study file."""

import optuna
import torch
from sklearn.datasets import load_digits
from torch import nn

import bsopt

EPOCHS = 15
digits = load_digits()
x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
mixed = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val = mixed[:1200], mixed[1200:]


def objective(trial: optuna.Trial) -> float:
    batch_size = trial.suggest_int("batch_size", 8, 512, log=True)
    lr = trial.suggest_float("lr", 1e-3, 1.0, log=True)
    torch.manual_seed(0)  # every trial from the same weights
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for epoch in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = nn.functional.cross_entropy(net(x[val]), y[val]).item()
        trial.report(loss, epoch)
        if (value := bsopt.conclude(trial)) is not None:  # converged: complete with its best; out of reach: pruned
            return value
    return loss


def main(num_trials: int = 20) -> optuna.Study:
    sampler = bsopt.ScalingSampler(optimizer="sgd", seed=0)
    pruner = bsopt.PlateauPruner(decays_to_end=False)  # the learning rate is constant here
    study = optuna.create_study(study_name="loop", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=num_trials)
    print(bsopt.recommend(study).sentence)
    print(f"report: {bsopt.write_report(study)}")
    return study


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
