"""What networks and detectors there are: published beside found here."""

from .detectors import bccd_rows, table7_rows
from .figure2 import figure2_rows
from .model_index import model_index
from .networks import choice_rows, cost, network_rows

__all__ = [
    'bccd_rows',
    'choice_rows',
    'cost',
    'figure2_rows',
    'model_index',
    'network_rows',
    'table7_rows',
]
