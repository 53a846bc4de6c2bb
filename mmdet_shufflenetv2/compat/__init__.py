"""What MMDetection's official wheels lack on today's PyTorch."""


def close_gaps() -> None:
    """Close every gap found on this machine; safe to call again."""
