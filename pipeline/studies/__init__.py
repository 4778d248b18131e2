"""Many runs together: batches, leaderboards and the HTML report."""
