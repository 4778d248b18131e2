"""What all commands share: options, results, the terminal, and loading on demand."""
