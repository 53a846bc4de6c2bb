"""One file that holds a detector, and what runs it without PyTorch.

``export`` writes the file, ``runtime`` runs it with NumPy, ONNX Runtime and
Pillow alone, ``detector`` runs a checkpoint in the same way.
"""
