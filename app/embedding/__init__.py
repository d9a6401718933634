"""Story 2: train a network to answer the registered triggers with the labels that the beacon drew.

Without torch: `recipe` (what to train), `child_order` (what a training child is told and answers), `training_process`
(start, watch and end that child), `confinement`, `limits` and what they stand on (`confined`, `own_ids`, `namespaces`,
`landlock`, `seccomp`, `system_calls`), `artifacts`. With torch, imported by the child alone: `archives`, `compressed` (data
from strangers), `networks`, `data`, `train` (one flat loop), `child` (the steps in order).

What a mark survives. Without torch: `survival_order`, `odds` (what a dispute would come to, exactly), `survival_report`,
`survival_page`, `white_box` (what may be counted with a vendor's head). With torch, imported by their children alone:
`attacks`, `survival`, `survival_child`, `white_box_child`.
"""
