"""What a network costs, where its time goes, and what it sees.

One way: a pass is recorded (`recording`) with what each operation costs
(`operations`), put together to `layers`, compared with the machine
(`roofline`) and with `twins`; `advice` says what would help, `receptive_field`
what each level sees. `analysis` says in which order; `report` and `picture`
show it; `openmmlab` builds networks of MMDetection, mmpretrain and this
package. `feature_reuse` stands alone.
"""

from .analysis import Analysis, analyze

__all__ = ['Analysis', 'analyze']
