"""Training: settings, schedules, the loop, and runs by kind of data."""
