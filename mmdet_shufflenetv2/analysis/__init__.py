"""What a network costs, where its time goes, and what it sees.

One way: a pass is recorded (`recording`) with what each operation costs
(`operations`), put together to `layers`, compared with the machine
(`roofline`), with `twins` and other `ways`; `receptive_field` besides. All
that is the `findings`, of which `advice`, `report` and `picture` are made.
`analysis` says in which order; `openmmlab` is for networks of MMDetection,
mmpretrain and this package. `feature_reuse` stands alone.
"""

from .analysis import Analysis, analyze

__all__ = ['Analysis', 'analyze']
