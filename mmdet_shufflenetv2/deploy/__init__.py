"""Export a detector to a single file and run it without PyTorch.

``export`` writes the file, ``runtime`` runs it with only NumPy, ONNX Runtime
and Pillow, and ``detector`` runs a checkpoint through the same interface.
"""
