"""What features and a head say about the data: near duplicates and wrong labels."""
