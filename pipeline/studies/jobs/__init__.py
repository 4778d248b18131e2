"""Parts of a batch: the study file, its jobs, their cost estimates and their execution."""
