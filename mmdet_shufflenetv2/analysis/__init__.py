"""Analyse what a network costs, where its time goes, and what it sees.

`recording` records a forward pass with the cost of each operation
(`operations`), and `layers` groups the operations. `roofline` and `twins`
compare layers with the machine's limits and with cheaper layers, `advice`
ranks what would help, and `receptive_field` measures what each level sees.
`analysis` runs these steps; `report` and `picture` present the result.
`openmmlab` builds networks to analyse.
"""

from .analysis import Analysis, analyze

__all__ = ['Analysis', 'analyze']
