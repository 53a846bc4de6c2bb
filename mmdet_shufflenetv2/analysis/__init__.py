"""What a network costs, where its time goes, and what it sees.

::

    from mmdet_shufflenetv2.analysis import analyze

    result = analyze(model, torch.rand(1, 3, 224, 224))
    print(result.table())

needs nothing but PyTorch. A pass is recorded (`recording`) with what each
operation costs (`operations`) and takes (`times`), and put together to
`layers`. The rest is measured besides: the machine's best (`roofline`),
layers beside `twins` that keep a guideline, other `ways` to run the network,
and the `receptive_field`. `analysis` says in which order, and holds what was
found; `advice` judges it; `report`, `tables` and `picture` show it.
`openmmlab` is for networks of MMDetection, mmpretrain and this package.
`feature_reuse` stands alone.
"""

from .analysis import Analysis, analyze

__all__ = ['Analysis', 'analyze']
