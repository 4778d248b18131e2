"""The stages that apply a trained run: evaluate and predict."""
