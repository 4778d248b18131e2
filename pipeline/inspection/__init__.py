"""Stages that inspect data: cache checks, label errors and the ranking of backbones."""
