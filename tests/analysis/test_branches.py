import torch
from torch import nn

from mmdet_shufflenetv2.analysis.branches import parallel_branches
from mmdet_shufflenetv2.analysis.recording import record


def conv() -> nn.Module:
    return nn.Conv2d(2, 2, 1)


class Inception(nn.Module):
    """Branches of one, two and one convolutions, then one over their sum."""

    def __init__(self):
        super().__init__()
        self.a, self.c, self.after = conv(), conv(), conv()
        self.b = nn.Sequential(conv(), conv())

    def forward(self, x):
        return self.after(self.a(x) + self.b(x) + self.c(x))


def branches(network: nn.Module) -> dict[str, int]:
    recorded = record(network, lambda: network(torch.ones(1, 2, 4, 4)))
    found = parallel_branches(recorded)
    return {recorded[index].owner: width for index, width in found.items()}


def test_a_chain_has_one_branch():
    found = branches(nn.Sequential(conv(), nn.ReLU(inplace=True), conv()))
    assert found == {'0': 1, '2': 1}


def test_branches_of_a_block_count_and_what_follows_does_not():
    found = branches(Inception())
    assert found == {'a': 3, 'b.0': 3, 'b.1': 3, 'c': 3, 'after': 1}


def test_blocks_one_after_the_other_do_not_add_up():
    network = nn.Sequential(Inception(), Inception())
    assert set(branches(network).values()) == {3, 1}


def test_lateral_connections_do_not_fragment_the_backbone():
    class Pyramid(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(conv(), conv())
            self.neck = nn.ModuleList([conv(), conv()])

        def forward(self, x):
            low = self.backbone[0](x)
            return self.neck[0](low), self.neck[1](self.backbone[1](low))

    found = branches(Pyramid())
    assert found['backbone.1'] == 1
    assert found['neck.0'] == found['neck.1'] == 2
