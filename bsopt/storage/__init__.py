"""All that is kept in Optuna's storages and artifact stores; the only room that knows attribute keys."""
