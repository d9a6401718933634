"""The portal: pages for people, of vendors and of nobody's.

A page is a function in `pages_*.py` that asks the floors below and renders a template; nothing is decided here. Whatever
needs a key that stays in the browser is a script in static/ that speaks to the API as its person.
"""
