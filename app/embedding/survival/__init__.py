"""The survival report: what attacks leave of a mark, and what a dispute over each attacked network would come to.

Start with `order`, then `measure` (attack and count; the attacks are `app.embedding.attacks`), `odds` (a dispute computed
beforehand) and `report`; `page` shows it, `child` runs it in a process of its own, `job` for the service.
"""
