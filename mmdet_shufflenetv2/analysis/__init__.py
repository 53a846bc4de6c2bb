"""What a network costs, where its time goes, and what it sees."""
