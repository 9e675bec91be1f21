"""What each .tflite variant of a model costs and gives: ``make lite-report``.

It stands in this room and not in ``lite/`` because it judges, times and draws with what is here, and arrows point from lite to compare.
"""
