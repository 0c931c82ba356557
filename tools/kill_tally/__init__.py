"""Kills commands at random moments, and counts how often the same command ends with the same result (see __main__)."""
