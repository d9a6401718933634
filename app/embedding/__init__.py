"""Story 2: train a network to answer the registered triggers with the labels that the beacon drew.

Without torch: `recipe` (what to train), `child_order` (what a training child is told and answers), `training_process`
(start, watch and end that child), `confinement` (what keeps it apart), `artifacts`. With torch, imported by the child alone:
`archives`, `compressed` (data from strangers), `exported` (networks from strangers), `networks`, `data`, `triggers`,
`methods`, `train` (one flat loop), `child` (the steps in order).

What a mark survives: `attacks` and `survival`; where a suspect's weights are at hand: `white_box`. In both, what decides
is without torch, and the child alone imports it.
"""
