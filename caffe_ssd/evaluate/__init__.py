"""Detections in and out of files, and mean average precision; numpy only."""
