"""What rules need to know of members besides their numbers: passes over data, one statistic a file."""
