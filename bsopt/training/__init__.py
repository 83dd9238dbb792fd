"""Lightning's side: one trial, from a plan and a learning rate to a record. Never imports optuna."""
