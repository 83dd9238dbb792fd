"""The user's own module and data: built, injected with a trial's parameters, looked at."""
