"""What a batch consists of: the study file, the jobs that it asks for, and how they are run."""
