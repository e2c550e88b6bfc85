"""Scores of boxes: FROC and average precision, their intervals' inner loop, their figures."""
